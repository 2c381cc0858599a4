"""Matters about cards: their arrival, loss, end and secret number."""

from __future__ import annotations

from pipeline.data.generators.banking_matter import Matter

CARD_MATTERS = (
    Matter(
        label="card_arrival",
        names="""delivery of a new card
            the journey of the plastic by post
            waiting for a card in the mail""",
        terms="""courier
            postman
            envelope
            letterbox
            parcel
            dispatch
            tracking number
            sorting office
            depot
            shipment""",
        events="""[my new card|the plastic] [has not come|never reached my letterbox|is in the post]
            [the courier|the postman] [left no envelope|brought no parcel|did not call at my door]
            [the envelope|the parcel|the shipment] [is overdue|was sent weeks ago|shows no tracking]
            [the envelope|the plastic] [lies at the depot|is stuck at the sorting office]
            I need to know [when the plastic ships|how long the post takes|when the courier comes]
            [dispatch|delivery|shipment] of the [plastic|envelope] [takes too long|was delayed]
            my letterbox [stays empty|has been empty for days]""",
        causes="""[the courier|the postman] could not find the [address|door|letterbox]
            [the post|the mail] is slow [over a holiday|in the countryside]
            the [envelope|parcel] was dispatched [late|to a distant depot]
            the plastic is [still being printed|waiting at the sorting office]""",
        remedies="""allow [five|seven|ten] working days for [the post|the courier]
            follow the tracking number of the [courier|shipment|parcel]
            look in the letterbox for [a plain envelope|a note from the postman]
            ask [the depot|the sorting office|the courier] for the [parcel|envelope]""",
        held_events="""nothing from the bank lies on my doormat
            a fortnight went by without any envelope
            the parcel service knows of no delivery for me
            the sorting office holds no plastic under my name""",
        held_facts="""Printing the plastic takes two days, and its journey by post another week.
            Couriers try the door twice before a parcel returns to the depot.
            An envelope without the bank's name protects the plastic on its way.""",
        train="""my new card has not arrived
            I am still waiting for my card
            my card should have arrived last week
            I ordered a card and want to know when it arrives
            I do not know when my new card will come
            the card you sent me is not here yet
            I would like to track my card
            the courier did not bring my card
            there is no envelope with my card in the post
            my letterbox has no card in it""",
        test="""the postman has not brought any plastic
            the envelope seems to be stuck at the depot
            the courier shows no shipment for me
            my letterbox is empty since I ordered
            I wonder about the dispatch of the plastic
            the mail has been slow with my envelope
            there is no tracking number for the parcel""",
    ),
    Matter(
        label="lost_card",
        names="""a card that is lost or stolen
            theft of a wallet
            missing and mislaid cards""",
        terms="""theft
            wallet
            purse
            handbag
            thief
            police
            freeze
            pickpocket
            pocket
            replacement""",
        events="""[my wallet|my purse|my handbag] [was stolen|was taken|disappeared|was snatched]
            [a thief|a pickpocket|somebody] [took|snatched|got] my [wallet|purse|handbag]
            I [misplaced|mislaid|dropped] my [wallet|purse] [on the train|in a taxi|in a bar]
            it [fell out of my pocket|was left behind] [in a taxi|in a bar|on the bus]
            I need to freeze the [stolen plastic|mislaid card|missing wallet] [at once|today]
            I need to block the [stolen plastic|mislaid card|missing wallet] [at once|today]
            the police [asked about|wrote down|know of] the [theft|thief]""",
        causes="""[a pickpocket|a thief] worked the [crowd|train|market]
            the [purse|wallet|handbag] was left [in a taxi|on a bench|on the bus]
            the card was [mislaid|misplaced|dropped] [at home|in a bar]""",
        remedies="""freeze the card [in the app|by telephone] [before anything else|straight away]
            report the [theft|thief] to the police
            look through [coat pockets|every handbag|the sofa] first
            order a replacement once the [theft|loss] is reported""",
        held_events="""two boys on a scooter grabbed my handbag
            my purse stayed behind on a train seat
            I emptied every pocket and found no wallet
            burglars got into the house and took my purse""",
        held_facts="""Whoever freezes the plastic within the hour bears no loss from a theft.
            A wallet often turns up at the police within three days.
            The police number of the theft belongs on the form for a replacement.""",
        train="""I lost my card
            my card has been stolen
            I have lost my bank card on holiday
            I think someone stole my card
            my card is lost and I need a new one
            I want to report a lost card
            I cannot find my card anywhere
            my wallet was stolen with the card in it
            my handbag is gone and the card too
            a thief has my card""",
        test="""a pickpocket got hold of my purse
            my handbag disappeared on the bus
            the plastic was mislaid in a taxi
            somebody snatched my wallet at the market
            everything must be frozen because of a theft
            the police told me to report the thief to you
            it fell from my pocket in a bar""",
    ),
    Matter(
        label="card_swallowed",
        names="""a card kept by a cash machine
            plastic that is retained by a machine
            cards stuck in an ATM""",
        terms="""slot
            dispenser
            ATM
            teller machine
            screen
            lobby
            retained
            jammed
            captured
            confiscated""",
        events="""the [ATM|dispenser|teller machine] [retained|captured|pulled in] [my plastic|it]
            the [ATM|teller machine] in the lobby [confiscated|captured|held] it
            [my card|the plastic] [is jammed in|is stuck in|vanished into] the [slot|ATM|dispenser]
            the [screen|dispenser] [went dark|shut down|froze] [with my plastic inside|and held it]
            the slot [will not release|has not returned|would not eject] [my card|the plastic|it]
            the lobby was closed when the [dispenser|ATM] [captured|retained|confiscated] it""",
        causes="""the [slot|dispenser|ATM] was [jammed|blocked with a device|out of order]
            the ATM [shut down|lost its connection] before it could [release|eject] it
            the teller machine [shut down|lost its connection] before it could [release|eject] it
            plastic that stays in the slot for thirty seconds is [retained|captured|pulled in]""",
        remedies="""stay at the [slot|screen] until the [dispenser|ATM] starts again
            ask the branch staff to open the [dispenser|ATM|teller machine]
            note the number on the [screen|dispenser|lobby door]
            never let a stranger in the lobby [touch the slot|look at the screen]""",
        held_events="""the wall outside the branch took my plastic and gave nothing back
            only a corner of the plastic sticks out of the slot
            the ATM whirred, and its screen wished me a nice day without it
            a red light blinks at the slot that holds it""",
        held_facts="""Retained plastic is cut up on the same evening, whoever owns it.
            A dispenser in a lobby is emptied of captured plastic every morning.
            Other banks never hand back what their ATM has confiscated.""",
        train="""the cash machine swallowed my card
            my card was swallowed by the machine
            the machine kept my card
            the cash machine did not give my card back
            my card is inside the cash machine
            the machine ate my card this morning
            I did not get my card back from the machine
            the ATM took my card
            my card is stuck in the slot
            the dispenser did not return my card""",
        test="""the ATM retained the plastic
            the dispenser captured it and the screen went black
            it is jammed in the slot of the ATM
            the slot will not release what I put in
            the terminal in the lobby confiscated my plastic
            the teller machine pulled it in and shut off
            a dispenser outside the branch holds it captive""",
    ),
    Matter(
        label="blocked_pin",
        names="""a PIN that is blocked
            choosing another PIN
            the secret number and its attempts""",
        terms="""secret number
            digits
            keypad
            attempts
            unblock
            combination
            memory
            tries
            four digits
            till""",
        events="""the keypad rejects my [four digits|secret number|combination]
            the keypad [refuses|does not take] my [four digits|secret number|combination]
            [the secret number|the combination] [slipped my mind|left my memory|is locked]
            I typed the wrong [digits|combination] [too often|three times] at the [till|keypad]
            [no attempts|no tries] are left [on the keypad|at the till]
            I would like to choose [another secret number|other digits|an easier combination]
            my [four digits|secret number] [locked after three tries|ran out of attempts]""",
        causes="""[three wrong tries|too many attempts] lock the [secret number|digits]
            the [secret number|combination] of an older card was typed at the till
            fingers slip on a [worn keypad|small keypad] and the attempts run out""",
        remedies="""[unlock|unblock|choose] the secret number [at any keypad of ours|in the app]
            read the [digits|combination] once in the app and keep them in memory
            wait a day until the [attempts|tries] start again
            cover the keypad with a hand while typing the [digits|secret number]""",
        held_events="""the till asked for digits and mine were all wrong
            my combination is my birthday and still the keypad complains
            after the operation my memory has no digits in it
            one attempt remains and I dare not touch the keypad""",
        held_facts="""Digits that follow each other, such as 1234, are no secret number.
            The counter of attempts falls back to zero after one right combination.
            Nobody at the bank can read a secret number, on no screen and no paper.""",
        train="""my PIN is blocked
            I entered the wrong PIN three times
            I forgot my PIN
            I want to change my PIN
            my PIN does not work in the shop
            I need to unblock my PIN
            I do not remember the PIN of my card
            the keypad does not take my PIN
            I typed the wrong digits
            my secret number is blocked""",
        test="""the keypad will not have my four digits
            the secret number has slipped out of my mind
            I typed wrong digits too many times at the till
            those secret digits are locked after so many tries
            I should like to choose a different secret number
            the keypad says that all attempts are used up
            my memory lost the combination""",
    ),
    Matter(
        label="card_expiry",
        names="""a card that expires
            renewal of an old card
            the end of a card's validity""",
        terms="""renewal
            validity
            valid
            lapse
            front
            printed date
            month and year
            runs out
            successor
            old plastic""",
        events="""[the plastic|my old plastic] [runs out|lapses] [next month|in March|this summer]
            its validity [ends soon|is over|ran out last month]
            the [date on the front|printed date|month on the front] has [passed|gone by]
            I [have had|received] no renewal for the [old plastic|lapsed plastic]
            the front says valid until [last month|next month|March]
            the [renewal|successor] of my lapsed plastic [is due|is missing]""",
        causes="""[every card|plastic] is valid for [three|four|five] years and then lapses
            the month printed on the front is the last one of its validity
            a renewal is made only for plastic that was [used|valid] in the last year""",
        remedies="""expect the renewal [two|three|four] weeks before the validity ends
            read the [month|date] printed on the front
            cut up the [lapsed|old] plastic when its successor is there
            ask for a renewal if the plastic [lapses|runs out] within days""",
        held_events="""December is printed below my name and it is January
            the shop says that my plastic is no longer valid
            my wife has her renewal and I have none
            mine is valid for two weeks more""",
        held_facts="""On the last day of the printed month the plastic is still valid.
            A renewal carries the same number as the plastic that runs out.
            Subscriptions learn of the new validity by themselves.""",
        train="""my card expires next month
            my card has expired
            I want to know when my card expires
            the expiry date of my card is near
            I need a new card before mine expires
            my old card is about to expire
            I wonder if you replace an expired card
            the date on my card has passed
            my card is valid until March
            I need a renewal of my card""",
        test="""what I carry runs out in March
            the validity ends very soon
            the date printed on the front went by
            there was no renewal and the old plastic lapses
            I would like the renewal of plastic no longer valid
            on the front it says valid until last summer
            my plastic lapsed over the summer""",
    ),
)
