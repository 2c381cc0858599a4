"""Matters about what things cost: charges, fees, rates and overdrafts."""

from __future__ import annotations

from pipeline.data.generators.banking_matter import Matter

COST_MATTERS = (
    Matter(
        label="unknown_charge",
        names="""a charge that nobody recognises
            suspicious charges and fraud
            payments to an unfamiliar merchant""",
        terms="""merchant
            statement
            fraud
            purchase
            suspicious
            unfamiliar
            fraudster
            dispute
            authorise
            strange""",
        events="""a strange merchant [took money|stands on my statement]
            [an unfamiliar|a suspicious] merchant [took money|stands on my statement]
            [a suspicious|an unfamiliar|a strange] purchase [is on my statement|was made on Sunday]
            I suspect [fraud|a fraudster] behind [a purchase|a merchant] on the statement
            my statement lists a [merchant|shop|purchase] [I never visited|I never authorised]
            my statement shows a [merchant|shop|purchase] [I never visited|I never authorised]
            a fraudster [bought something|made a purchase] in my name
            I never authorised [this purchase|that merchant|this shop]""",
        causes="""a merchant may trade under [an unfamiliar|a strange] name on the statement
            [a fraudster|a strange website] copied the number at an earlier purchase
            someone in the household [authorised|made] the purchase""",
        remedies="""compare the [merchant|purchase] with [receipts|e-mails] of that day
            dispute the [suspicious|unfamiliar|strange] purchase within [thirteen months|sixty days]
            report [fraud|the fraudster] [by telephone|in the app] at once
            ask the merchant what the [purchase|statement line] was""",
        held_events="""my statement speaks of a casino and I never gamble
            a merchant in Lisbon sold me something while I slept
            there are three small purchases that look like a fraudster's test
            none of us knows the merchant above the last line""",
        held_facts="""Fraudsters begin with a purchase of a few pence.
            A merchant has two weeks to prove that a purchase was authorised.
            The statement shows the town of a merchant beside its name.""",
        train="""there is a charge I do not recognise
            I see an unknown charge on my account
            I did not make this payment
            someone charged my account without asking
            I do not know this charge on my account
            a charge appeared that is not mine
            I want to know what this charge is
            a merchant I do not know charged me
            this purchase is not mine
            I think a charge is fraud""",
        test="""a strange merchant helped himself on my statement
            some suspicious purchase stands on the statement
            I suspect fraud by a shop never visited
            the statement lists a merchant unfamiliar to me
            a fraudster went shopping in my name
            an unfamiliar purchase was booked on Sunday
            nobody here authorised what that merchant took""",
    ),
    Matter(
        label="cash_withdrawal_fee",
        names="""the fee for withdrawing cash
            what a cash withdrawal costs
            fees for notes from another bank's machine""",
        terms="""surcharge
            commission
            banknotes
            operator
            notes
            free of commission
            drawing money
            extra cost
            allowance
            tariff""",
        events="""the [ATM operator|operator] [added|took|demanded] a [surcharge|commission]
            [getting|drawing] [banknotes|notes] cost me [extra|a commission|a surcharge]
            I paid [commission|a surcharge|extra] for [banknotes|taking out notes]
            two pounds [of commission|of surcharge] came on top of my [notes|banknotes]
            three pounds [of commission|of surcharge] came on top of my [notes|banknotes]
            I would like to [take out|draw] [notes|banknotes] free of commission
            drawing [money|notes|banknotes] costs [more than before|extra]""",
        causes="""the operator of the ATM sets [a surcharge|a commission] of its own
            the monthly allowance of [notes|banknotes] free of commission was used up
            drawing [notes|banknotes] abroad carries [a commission|a surcharge|extra cost]""",
        remedies="""look for [an operator|a dispenser] without a [surcharge|commission]
            draw [banknotes|notes] [once a month|in larger sums] to save commission
            ask for [notes|banknotes] at a supermarket till, free of [commission|surcharge]
            read the [tariff|surcharge] on the screen before taking the [notes|banknotes]""",
        held_events="""the village operator wants four pounds for every handful of notes
            my banknotes came with a commission nobody had named
            three drawings of notes and three surcharges this week
            even a tenner costs me commission""",
        held_facts="""The tariff allows five drawings of banknotes a month.
            An operator must show its surcharge before the notes come out.
            Commission on banknotes is booked on the next working day.""",
        train="""I was charged a fee for a cash withdrawal
            I want to know the fee for withdrawing cash
            there was a fee when I withdrew cash
            you took a fee for my cash withdrawal
            I paid too much to withdraw cash
            I do not understand the cash withdrawal fee
            I want to withdraw cash without a fee
            the cash machine asked for a surcharge
            I paid commission on my cash
            getting cash costs too much""",
        test="""some ATM operator put a surcharge on it
            getting hold of banknotes cost me something extra
            I had to pay commission for a few notes
            two pounds went on commission at the dispenser
            a surcharge was put on top of the banknotes
            I prefer to take out notes without commission
            drawing money costs more than it used to""",
    ),
    Matter(
        label="exchange_rate",
        names="""the exchange rate for other currencies
            how money is converted
            rates for dollars and euros""",
        terms="""conversion
            currency
            dollars
            yen
            krona
            markup
            interbank price
            quote
            converted
            foreign money""",
        events="""my [dollars|yen|krona] were converted [poorly|badly|on a bad day]
            the conversion [from yen|from dollars|into krona] [looks unfair|seems poor]
            I got fewer [pounds|dollars|yen] than the [currency market|interbank price] quotes
            the [foreign currency|foreign money] was converted [a day late|with a markup]
            the quote for [krona|yen|dollars] differs from the [market|interbank price]
            your markup on [currencies|foreign money|yen] [seems high|is not stated]""",
        causes="""[currencies|quotes|interbank prices] move [every second|while markets are open]
            a markup of [half a percent|one percent] is part of every conversion
            [foreign money|a foreign purchase] is converted on the day it is booked""",
        remedies="""read the quote in the app before [converting|sending] [dollars|yen|krona]
            read the conversion in the app before [converting|sending] [dollars|yen|krona]
            compare the [quote|markup] with the interbank price
            pay in the currency of the country and decline a [merchant's|hotel's] conversion
            convert [currencies|foreign money] on weekdays, when the markup is lower""",
        held_events="""my Swiss francs became far fewer pounds than I thought
            the hotel did the conversion and kept a markup
            yesterday the dollar stood better than your quote
            nobody told me at which price the krona are converted""",
        held_facts="""The interbank price is what banks pay one another for a currency.
            On Saturdays a markup guards against Monday's currency market.
            Yen have no pence, so a conversion rounds to whole numbers.""",
        train="""the exchange rate is wrong
            I want to know the exchange rate
            you used a bad exchange rate for my payment
            the exchange rate changed after I paid
            I was given the wrong exchange rate abroad
            I do not understand how you set the exchange rate
            I want a better exchange rate for euros
            my dollars got a bad rate
            I want to know how currency is converted
            the conversion into euros is wrong""",
        test="""all those dollars were converted rather poorly
            a conversion from yen looks unfair to me
            I got fewer pounds than the currency market promised
            that foreign currency was converted on the worst day
            your quote for krona is off the interbank price
            I would like to see dollars converted to pounds
            the markup you put on currencies is high""",
    ),
    Matter(
        label="overdraft_limit",
        names="""the limit of an overdraft
            being overdrawn
            using and raising an overdraft""",
        terms="""below zero
            in the red
            payday
            borrow
            buffer
            negative balance
            minus
            borrowing
            lend
            arranged credit""",
        events="""my balance [went|fell|sank] below zero [before payday|again]
            I [slipped|went|fell] into the red [before payday|this month]
            I would like to borrow [a little|some money|a bit more] until payday
            I need a [buffer|bit of credit] when the balance is [negative|below zero|minus]
            the balance stands at minus [fifty|eighty|three hundred] pounds
            the arranged [borrowing|credit|buffer] is too [small|high]""",
        causes="""rent is due before payday and the balance goes [below zero|into the red|negative]
            a buffer of [fifty|twenty] pounds below zero costs nothing, more is borrowing
            [borrowing|being in the red] without an arranged buffer costs more""",
        remedies="""ask how much you may borrow before the balance is negative
            ask how much you may borrow before the balance is [below zero|in the red]
            arrange a [buffer|bit of credit] of one month's pay
            pay in before midnight to leave the [red|minus]
            borrow by a loan if you are in the red [every month|long after payday]""",
        held_events="""after the rent there is a minus in front of everything
            payday is the last of the month and my money ends on the twentieth
            you lend me a hundred and I would need three
            the red figures frighten me""",
        held_facts="""What is borrowed is repaid by the next salary on payday.
            Twenty pounds below zero are forgiven.
            A buffer can be arranged, raised and lowered in a minute.""",
        train="""I want an overdraft
            I want to raise my overdraft limit
            my account is in overdraft
            I was charged for my overdraft
            I do not know my overdraft limit
            I need a bigger overdraft this month
            I want to end my overdraft
            my balance is below zero
            I want to borrow more with my overdraft
            I need an overdraft until payday""",
        test="""the balance went well below zero
            I will be in the red until payday
            I hope to borrow a little before payday
            a buffer is needed when the balance turns negative
            everything stands at minus fifty
            I slipped far into the red
            your arranged borrowing is too small for me""",
    ),
)
