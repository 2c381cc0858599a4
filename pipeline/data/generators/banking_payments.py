"""Matters about money on its way: top ups, transfers, debits, refunds."""

from __future__ import annotations

from pipeline.data.generators.banking_matter import Matter

PAYMENT_MATTERS = (
    Matter(
        label="top_up_failed",
        names="""a top up that failed
            trouble with adding money
            top ups that are turned down""",
        terms="""adding funds
            load
            balance
            rejected
            bounced
            turned down
            source of funds
            refused
            instant deposit
            funding""",
        events="""[adding|loading] [funds|money] [was rejected|was refused|was turned down]
            I could not [load|add] [money|funds] [onto|to] [the balance|my balance]
            [loading my balance|an instant deposit] by debit card [bounced|was refused]
            the [deposit|funding] I tried to add [bounced|was rejected|was turned down]
            the app [refused|rejected|turned down] [the funds|my deposit|the funding]
            the funds I wanted to [add|load] [bounced|were turned down|were rejected]""",
        causes="""the other bank [rejected|turned down|refused] the [funds|deposit|funding]
            the source of funds had too little, so the [deposit|load] bounced
            the source of funds is under another name, so the [deposit|load] bounced
            loading is limited to [one thousand|five hundred] pounds a day and more is refused""",
        remedies="""try to load a smaller [sum|deposit] [onto the balance|in an hour]
            add funds from [another source|a bank account] in your own name
            ask the other bank why the [funds|deposit|funding] [bounced|was refused]
            check the daily limit before [loading|adding] funds""",
        held_events="""fifty pounds set off from my other bank and bounced
            the funding page turns red as soon as I load anything
            Apple Pay refused to fund the balance
            my salary card is turned down as a source""",
        held_facts="""Funds that bounce are back at their source within the hour.
            A rejected deposit never touches the balance.
            Loading from a business source is refused by rule.""",
        train="""my top up failed
            my top up did not work
            I tried to top up and it failed
            I cannot top up my account
            the top up was cancelled
            my account shows no top up
            the app said that my top up failed
            I could not add funds to my account
            my deposit did not work
            the top up was rejected""",
        test="""adding some funds got rejected
            there is no way to load money onto the balance
            loading the balance by debit card keeps bouncing
            that deposit I tried to add bounced back
            the app refused to load any funds
            my attempt at funding the balance was rejected
            whatever funds I add are turned down""",
    ),
    Matter(
        label="pending_transfer",
        names="""a transfer that is still pending
            how long transfers take
            money on its way to another bank""",
        terms="""beneficiary
            remittance
            recipient
            payee
            wire
            processing
            queue
            credited
            clearing
            in transit""",
        events="""the beneficiary [has received nothing|was not credited|keeps asking]
            the [payee|recipient] [has received nothing|was not credited|keeps asking]
            the [remittance|wire] [hangs in processing|waits in the queue|is stuck in clearing]
            the money I sent is [stuck between banks|in transit|in processing]
            my [remittance|wire] to the [recipient|beneficiary|payee] shows as processing
            nothing was credited to the [payee|recipient|beneficiary]
            a wire [sits in the queue|is in clearing] since [Monday|Friday]""",
        causes="""the beneficiary's bank holds the [wire|remittance] in its queue
            the [payee's|recipient's] bank holds the [wire|remittance] in its queue
            clearing stops [at night|on Sundays|on holidays] and the queue grows
            a [remittance|wire] to a new [payee|recipient] is checked before processing""",
        remedies="""allow [one|two|three] working days for [clearing|processing]
            compare the account number of the [payee|recipient|beneficiary]
            send the [recipient|beneficiary|payee] the reference of the [wire|remittance]
            recall the [wire|remittance] while it is in [the queue|processing]""",
        held_events="""my daughter is the payee and her bank sees nothing
            since noon the wire turns in circles
            the remittance left me on Tuesday, and where is it now
            a builder waits as recipient and threatens to stop work""",
        held_facts="""Clearing runs six times on a working day and never on a Sunday.
            A wire in the queue is recalled with one tap.
            The beneficiary's bank has until the evening to credit a remittance.""",
        train="""my transfer is still pending
            my transfer has not gone through
            I want to know how long a transfer takes
            the transfer I made is not there yet
            my transfer to a friend is pending
            I made a transfer yesterday and it is still pending
            I want to know why the transfer is pending
            the recipient has not got my transfer
            the money I sent is still processing
            my wire is pending""",
        test="""the beneficiary still received nothing
            that remittance hangs somewhere in processing
            what I sent is stuck between two banks
            a remittance to my recipient shows as processing
            the payee tells me nothing was credited
            our wire stays in the queue since Monday
            the recipient keeps phoning about the wire""",
    ),
    Matter(
        label="direct_debit",
        names="""a direct debit on the account
            bills paid by direct debit
            setting up and stopping direct debits""",
        terms="""mandate
            subscription
            bill
            collect
            utility company
            gym
            insurer
            premium
            revoke
            creditor""",
        events="""the [gym|insurer|utility company] [collects|collected] [too early|twice|too much]
            I need to [revoke|sign|end] the mandate of the [gym|insurer|electricity company]
            the [bill|premium|subscription] was [collected twice|not collected|collected early]
            my [subscription|electricity bill|phone bill] [has a mandate|must lose its mandate]
            the [insurer|utility company|creditor] asks for a mandate for [its premium|the bill]
            [a creditor|the gym] keeps collecting a [subscription|premium|monthly bill]""",
        causes="""a mandate lets the [creditor|insurer|gym] collect whatever the bill says
            the [utility company|insurer|creditor] collected on the [first|wrong] day of the month
            the bill was not collected because the mandate had been revoked
            the [premium|subscription] was not collected because the mandate had been revoked""",
        remedies="""revoke the mandate in the app three days before the bill is collected
            revoke the mandate in writing three days before the bill is collected
            ask the [creditor|gym|utility company] to [correct the bill|end the subscription]
            claim back within eight weeks what a creditor collected [twice|without a mandate]
            sign the mandate of the [insurer|utility company] with your account number""",
        held_events="""a magazine goes on collecting though I let the subscription go
            the water company has lost my mandate
            our insurer took the yearly premium in one go
            I signed a mandate for a gym that shut its doors""",
        held_facts="""A creditor announces what it collects fourteen days before.
            A mandate that collects nothing for three years dies by itself.
            Whoever revokes a mandate still owes the bill.""",
        train="""I want to cancel a direct debit
            my direct debit was not paid
            a direct debit was taken twice
            I want to set up a direct debit
            the direct debit went out too early
            I do not know who set up this direct debit
            my direct debit was returned
            I want to cancel the mandate
            the gym took a direct debit
            my phone bill was taken twice""",
        test="""the gym goes on collecting its subscription
            I would like to revoke what the electricity company signed
            that utility company collected the same bill twice
            the mandate for the phone bill must end
            my subscription was collected a week too soon
            our insurer wants a mandate for the premium
            this month the utility bill was never collected""",
    ),
    Matter(
        label="missing_refund",
        names="""a refund that is missing
            when refunds are booked
            money back from a shop""",
        terms="""reimbursement
            retailer
            returned goods
            repaid
            seller
            cancelled order
            airline
            booking
            money back
            hotel""",
        events="""the retailer [promised|owes me|speaks of] [reimbursement|money back]
            the [seller|airline] [promised|owes me|speaks of] [reimbursement|money back]
            the money back from the [airline|hotel|seller] is [nowhere|overdue]
            the [retailer|seller|hotel] has not [reimbursed|repaid] [my order|my booking]
            I returned [goods|shoes|a coat] and was not [reimbursed|repaid]
            the [seller|retailer] claims [it repaid me|that I was reimbursed]
            my cancelled [booking|order|flight] was never [reimbursed|repaid]""",
        causes="""the [retailer|seller|airline] repaid [another card|a gift voucher]
            [reimbursement|money back] needs up to [five|ten] days after the goods are returned
            the [hotel|seller|airline] [holds back|has not released] the reimbursement""",
        remedies="""ask the [retailer|seller|hotel] on which day it [repaid|reimbursed] you
            keep the slip of the returned [goods|coat|shoes]
            wait [five|ten] days after the [seller|airline] confirms the reimbursement
            send us the mail in which the [retailer|hotel] cancelled the [booking|order]""",
        held_events="""I sent the toaster home to its seller and never saw the pounds
            the concert was called off and nobody repaid the tickets
            a retailer swears that reimbursement left in May
            the landlord of our cancelled booking keeps silent""",
        held_facts="""Reimbursement goes to the card that bought the goods.
            An airline has seven days to repay a cancelled flight.
            Returned goods must reach the seller before anybody is repaid.""",
        train="""my refund has not arrived
            I am waiting for a refund
            the shop said I got a refund but I do not see it
            I want my refund
            my refund is missing from my account
            the refund is not on my account yet
            I sent the item back and got no refund
            the shop has not paid my money back
            I returned shoes and want the refund
            my cancelled order was not refunded""",
        test="""a retailer promised me reimbursement for the return
            money back from an airline is nowhere
            the retailer has not reimbursed the returned shoes
            these goods were returned and I was not reimbursed
            that seller claims to have repaid my cancelled order
            the hotel still owes me a reimbursement
            our cancelled booking was not repaid""",
    ),
)
