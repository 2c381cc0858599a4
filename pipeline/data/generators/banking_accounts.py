"""Matters about the account itself: its end, its owner, the way in and savings."""

from __future__ import annotations

from pipeline.data.generators.banking_matter import Matter

ACCOUNT_MATTERS = (
    Matter(
        label="close_account",
        names="""closing an account for good
            the end of an account
            leaving and having an account closed""",
        terms="""terminate
            leave
            switch
            competitor
            farewell
            relationship
            remaining money
            membership
            quit
            shut down""",
        events="""I intend to [leave|quit] [this bank|your bank] [for another|for a competitor]
            I would like to [terminate|end|quit] [the relationship|my membership]
            my [membership|relationship with you] should [end|terminate] [for good|this month]
            I [switch|plan to switch] to [a competitor|another bank] and say [farewell|goodbye]
            everything you hold on me [should be deleted|must be erased]
            I wish to [shut it down|quit] and [take|withdraw] the remaining [money|pounds]""",
        causes="""a [competitor|rival] makes a better offer and customers [leave|switch|quit]
            [two memberships|a second relationship] is more than some people want
            people [leave|quit|switch] when they [marry|move abroad|retire]""",
        remedies="""move the remaining [money|pounds] elsewhere before you [leave|quit|terminate]
            say in one line that the [membership|relationship] should [end|terminate]
            let the [competitor|other bank] do the [switch|farewell letter] for you
            download what you need before everything is [deleted|erased|shut down]""",
        held_events="""from May on a rival looks after my money
            twelve years with you are enough and I take my leave
            my late father was a customer and his membership must end
            let us part as friends and pay out what remains""",
        held_facts="""Whoever switches to a competitor is asked for no reason.
            What remains is paid out within two days of the farewell.
            A relationship that was terminated cannot be opened again.""",
        train="""I want to close my account
            I would like my account closed
            I want you to close the account
            I need to know how to close my account
            I wish to close the account for good
            I no longer need my account
            I tried to close my account and could not
            I am leaving this bank
            I want to switch to another bank
            I want my account shut""",
        test="""I am about to leave this bank for another one
            it is time to terminate our relationship
            I wish my membership to end
            a competitor is better and I say goodbye
            whatever you hold on me should be erased
            please shut it down and pay the remaining pounds
            I quit and switch to a competitor""",
    ),
    Matter(
        label="change_address",
        names="""a change of address
            keeping the address up to date
            addresses after a move""",
        terms="""relocate
            postcode
            removal
            moving house
            street
            residence
            flat
            town
            former home
            letters""",
        events="""I [relocated|have relocated] to another [town|street|flat]
            my letters [go|still go] to [a flat I left|my former home|the old street]
            we are moving house [in spring|next week|soon]
            I have a different [postcode|street] since the removal
            I [live|will live] in a [new street|new flat|different town] since the removal
            my [residence|home] is [no longer|not] in [the old town|that street]""",
        causes="""[letters|statements] follow the [postcode|street] that was given first
            people who relocate tell the [town|landlord] and forget the bank
            the [flat|house] number was left out after the removal""",
        remedies="""type the new street in the app [after the removal|before moving house]
            type the new postcode in the app [after the removal|before moving house]
            send a [rent contract|bill] that shows the new [residence|flat|street]
            ask the former home's owner to pass on [letters|statements]
            tell us the day of the removal when you [relocate|move house]""",
        held_events="""the removal van comes on Friday
            someone else lives in the flat that you write to
            my street was given another name by the town
            we went from a flat to a cottage with its own postcode""",
        held_facts="""A new postcode counts from the next morning.
            Letters that come back put a residence on hold.
            Relocating to another country needs a new contract.""",
        train="""I want to change my address
            I have a new address
            my address on the account is wrong
            I moved and need to change my address
            I need to update my address
            you have my old address
            I cannot change my address in the app
            the street on my account is wrong
            my letters go to the old address
            I am moving and have a new postcode""",
        test="""I just relocated into another town
            letters go to a flat that I left
            in spring we will be moving house
            my postcode is different since the removal
            I live in some new street now
            the statements keep going to my former home
            this residence is no longer mine""",
    ),
    Matter(
        label="verify_identity",
        names="""verifying the identity of a customer
            proof of identity
            identity checks with papers""",
        terms="""passport
            selfie
            document
            scan
            driving licence
            photo
            upload
            blurry
            video call
            papers""",
        events="""the photo of my [passport|driving licence] was [not accepted|blurry|turned away]
            the scan of my [passport|driving licence] was [not accepted|blurry|turned away]
            my selfie does not match the [passport|document|driving licence]
            uploading [the driving licence|a scan|my passport] [goes wrong|never ends]
            you [want|ask for] a [scan|photo] of my [passport|papers|documents]
            the app finds my [passport|selfie|scan] [blurry|too dark]
            I have no passport and only [a driving licence|old papers]""",
        causes="""a [photo|selfie|scan] with glare is [blurry|hard to match]
            the [passport|driving licence] has run out or its photo is old
            the law asks every bank for [a document|papers|a passport] and a selfie""",
        remedies="""lay the [passport|driving licence|document] flat and take the photo by daylight
            upload the [scan|photo] [again|in colour] with all four corners
            take off glasses for the [selfie|video call]
            show the [document|passport|papers] in a video call""",
        held_events="""my passport lies with an embassy until June
            on the selfie I wear a beard, on the licence none
            your camera wants all corners and cuts one off the document
            the scan hangs at ninety percent""",
        held_facts="""A passport counts even when its owner has married since.
            Selfies are compared by a machine first and by people after.
            Scans of documents are erased after five years.""",
        train="""I cannot verify my identity
            you ask me to verify my identity
            I want to know how to verify my identity
            my identity check failed
            my identity is still not verified
            I do not want to prove my identity again
            the app does not accept my identity check
            you did not accept my passport
            my selfie was not accepted
            I cannot upload my identity document""",
        test="""a photo of my passport was turned down
            that selfie does not match my document
            uploading a driving licence goes wrong
            you want to have a scan of my papers
            the app calls my passport blurry
            I own no passport but a driving licence
            the video selfie keeps being rejected""",
    ),
    Matter(
        label="forgotten_passcode",
        names="""a passcode that was forgotten
            getting into the app without the passcode
            resetting a passcode""",
        terms="""password
            sign in
            login
            credentials
            unlock
            lock screen
            phone
            reset link
            fingerprint
            user name""",
        events="""my password [has slipped away|is gone|does not unlock anything]
            signing in [fails|goes wrong|never ends] on my [phone|tablet]
            the [login|sign in] [screen|page] [refuses|rejects] the [password|credentials]
            my credentials [no longer|do not] unlock the [phone|screen|app]
            I would like to sign in with [another password|my fingerprint]
            the phone [asks|asks again] for [credentials|a password|a user name] I lost""",
        causes="""the [password|login] was set on [another phone|an old tablet]
            five wrong [passwords|logins] shut the sign in page for an hour
            a new phone does not know the [credentials|fingerprint|password]""",
        remedies="""tap the reset link below the [login|sign in page|password]
            sign in with [a fingerprint|the user name] and set [a new password|new credentials]
            unlock the [phone|screen] with the reset link from our mail
            never keep [a password|credentials] in a note on the phone""",
        held_events="""since the update my fingerprint opens nothing
            a notebook with every password burned
            the login spins and then I am outside again
            my user name is right and the rest is fog""",
        held_facts="""A reset link works for ten minutes and on one phone.
            Credentials never travel by mail or telephone.
            Whoever signs in with a fingerprint can set a password there.""",
        train="""I forgot my passcode
            I cannot get in to the app
            I do not remember my passcode
            my passcode is not accepted
            I need to reset my passcode
            I am locked out of the app
            the app says that my passcode is wrong
            I forgot my password for the app
            I cannot sign in
            my login is not accepted""",
        test="""the password has slipped away from me
            signing in fails on this phone
            the login page refuses my password
            these credentials no longer unlock the screen
            I should like to sign in with a new password
            my phone wants credentials that I lost
            the sign in page throws me out""",
    ),
    Matter(
        label="savings_interest",
        names="""interest on savings
            what savings earn
            savings accounts and their interest""",
        terms="""yield
            nest egg
            pot
            growth
            annual percentage
            rainy day
            put aside
            earn
            yearly
            reserve""",
        events="""my nest egg [hardly grows|shows no growth|earns nothing]
            I would like a better yield for [my pot|the money I put aside|a nest egg]
            the [yearly|annual] [yield|percentage] on my [pot|nest egg|reserve] [fell|dropped]
            I put money aside [each month|every week] and it [earns nothing|hardly grows]
            my rainy day [pot|reserve] earns [too little|almost nothing]
            I look for growth on [what I put by|my reserve|my pot]""",
        causes="""the [annual percentage|yearly yield] follows the central bank
            a [pot|nest egg|reserve] under [one hundred|one thousand] pounds earns a lower yield
            growth is added to the [pot|reserve] once a year""",
        remedies="""put aside a fixed sum [each month|every week] and let the [pot|nest egg] grow
            compare the yearly [yield|percentage] of every [pot|reserve]
            lock the [pot|nest egg|reserve] for a year to earn a better yield
            keep three months' pay as a rainy day [pot|reserve]""",
        held_events="""for my grandchildren I put coins aside and they do not multiply
            next door they pay four percent on every pot
            in January the growth should have been added
            what use is a reserve that melts""",
        held_facts="""Growth is worked out by the day and paid in January.
            A locked nest egg earns more than an open one.
            The yield of a pot is a yearly figure.""",
        train="""I want to know the interest on my savings
            my savings account pays no interest
            the interest on my savings is low
            I want to open a savings account
            I did not get interest on my savings
            I want to know when interest is paid on savings
            the savings interest went down
            my savings earn too little
            I want a better yield on my savings
            the pot I save in pays no interest""",
        test="""this nest egg of mine hardly grows
            I am after a better yield for money put aside
            the yearly yield on the pot fell
            each month I put something aside and it earns nothing
            that rainy day pot earns far too little
            I am looking for growth on my reserve
            the annual percentage on the pot has dropped""",
    ),
)
