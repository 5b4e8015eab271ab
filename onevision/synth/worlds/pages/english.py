"""The English language of pages: words and phrases."""

from onevision.synth.kit import lexicon
from onevision.synth.kit.words import split
from onevision.synth.worlds.pages.language import (
    BoardPhrases,
    FormPhrases,
    Language,
    LetterPhrases,
    PosterPhrases,
    ReceiptPhrases,
    WordLists,
)

_PEOPLE = tuple(
    f"{first} {lexicon.SURNAMES[(7 * n + 3 * k) % len(lexicon.SURNAMES)]}"
    for n, first in enumerate(lexicon.FIRST_NAMES)
    for k in range(5)
)
_STREETS = tuple(
    f"{(31 * n) % 140 + 1 + k} {street}"
    for n, street in enumerate(lexicon.STREETS)
    for k in (0, 7, 22)
)

ENGLISH = Language(
    face="latin",
    words=WordLists(
        people=_PEOPLE,
        shops=lexicon.SHOPS,
        streets=_STREETS,
        cities=lexicon.CITIES,
        goods=lexicon.GOODS,
        jobs=lexicon.JOBS,
        events=split("""
            Jazz Night, Book Fair, Flea Market, Open Day, Summer Party, Chess Open, Film Night,
            Poetry Slam, Dance Class, Art Show, Food Festival, Charity Run, Science Day,
            Garden Tour, Piano Concert, Quiz Night, Toy Market, Bike Race, Spring Ball, Winter Fair,
            Choir Concert, Photo Walk, Puppet Show, Tea Tasting, Story Hour, Kite Festival,
            Boat Trip, Magic Show, Street Fair, Job Fair
        """),
        venues=split("""
            Town Hall, City Park, Central Library, Old Theatre, School Gym, Market Square,
            River Stage, Museum Garden, Main Station, Sports Hall, Castle Yard, Harbour Hall,
            Community Centre, Green House, Opera House, Lake Pavilion, North Gallery
        """),
        notes=split("""
            Buy milk, Call Ada, Pay rent, Water plants, Gym at 6, Book flight, Fix bike,
            Send parcel, Feed cat, Meet Tom, Wash car, Bake bread, Read mail, Lunch at 1, Find keys,
            Clean desk, Plan trip, Sign form, Visit Nora, Order ink, Walk dog, Print map,
            Charge phone, Return book, Buy stamps, Test alarm, Paint door, Pack bags, Cut grass,
            Ask Leo, New lamp, Room 12, Closed today, Fresh eggs
        """),
        stamps=("PAID", "COPY", "URGENT", "DRAFT", "SECRET", "SENT", "FINAL", "SAMPLE", "VOID"),
        things=split("""
            red bag, blue folder, old camera, garden key, small table, city map, guitar, green coat,
            big box, spare key, photo album, tea set, desk lamp, travel book, wooden chair,
            white tent, signed form, second ticket, black umbrella, radio
        """),
        sentences=split("""
            Please bring the {thing} on {day}., We will meet in {city} at {time}.,
            The train to {city} leaves at {time}., I have sent the {thing} to {person}.,
            {person} will wait for you in {city}., Our {thing} arrived on {day} and looks fine.,
            Could you lend me your {thing} until {day}?, On {day} the office closes at {time}.,
            Nobody has seen the {thing} since {day}., {person} and I visited {city} last year.,
            The new {thing} costs less than we thought.,
            Do not forget to call {person} before {time}., It rained in {city} until {day}.,
            Tell {person} that the {thing} is ready.
        """),
        days=lexicon.FULL_WEEKDAYS,
        months=lexicon.MONTHS,
        dates=("{day} {month} {year}", "{month} {day}, {year}", "{year}-{number:02d}-{day:02d}"),
        currencies=("$", "$", ""),
    ),
    comma=", ",
    last=" and ",
    punctuation=".,!?:;",
    places=(
        *("top left", "top center", "top right", "center left", "center", "center right"),
        *("bottom left", "bottom center", "bottom right"),
    ),
    colours=("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"),
    ordinals=(
        *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"),
        *("ninth", "tenth", "eleventh", "twelfth"),
    ),
    line_length=30,
    ask_field=(
        "What is the {label}?",
        "What is written next to {label}?",
        "Read the field {label}.",
    ),
    field="{label} {value}",
    receipt=ReceiptPhrases(
        date="Date",
        time="Time",
        number="Number",
        cashier="Cashier",
        columns=("Item", "Qty", "Price", "Sum"),
        subtotal="Subtotal",
        tax="Tax",
        total="Total",
        cash="Cash",
        change="Change",
        thanks=(
            "Thank you!",
            "Please come again",
            "Have a nice day",
            "See you soon",
            "Many thanks",
        ),
        caption=(
            "A receipt from {shop} with {count} items; the total is {total}.",
            "A receipt of the shop {shop} over {total} for {count} items.",
        ),
        detail=(
            "The shop is at {street}. The receipt says: {fields}. The items are {goods}. "
            "Below them stand: {amounts}. It ends with the words: {thanks}"
        ),
        good="{name} {price}",
        good_counted="{name} ({count} at {price}, {sum} in all)",
        ask_field=(
            "What is written next to {label}?",
            "What does the receipt say next to {label}?",
            "Read what stands beside {label}.",
        ),
        ask_amount=(
            "How much is the {label}?",
            "Which amount stands next to {label}?",
            "What does the receipt say for {label}?",
        ),
        ask_total=("What is the total?", "How much is to be paid in all?", "What is the sum due?"),
        ask_shop=("Which shop is the receipt from?", "What is the name of the shop?"),
        ask_street=("What is the address of the shop?", "What is printed below the shop's name?"),
        ask_price=("What is the price of {name}?", "Which price is printed next to {name}?"),
        ask_unit=("What is the unit price of {name}?", "What is the price of one piece of {name}?"),
        ask_count=("What quantity of {name} was bought?", "How many pieces of {name} were bought?"),
        ask_sum=("What is the sum for {name}?", "How much was charged for {name} in all?"),
        ask_goods=("How many different items are listed?", "How many lines of items are there?"),
        ask_dearest=(
            "Which item has the highest unit price?",
            "Which item costs most for one piece?",
        ),
        ask_nth=("Which item is listed {nth}?", "What is the {nth} item on the receipt?"),
        ask_tax_rate=("What is the tax rate?", "How many percent is the tax?"),
    ),
    form=FormPhrases(
        titles=(
            *("Registration", "Application", "Membership Form", "Order Form", "Travel Request"),
            *("Library Card", "Visitor Form", "Course Sign-up", "Patient Form", "Lost and Found"),
            *("Contact Form", "Rental Form", "Hotel Check-in", "School Form", "Club Entry"),
        ),
        name="Name",
        birth="Date of birth",
        city="City",
        street="Street",
        phone="Phone",
        job="Job",
        date="Date",
        number="Number",
        choices=(
            ("Size", ("small", "medium", "large")),
            ("Payment", ("cash", "card")),
            ("Meal", ("meat", "fish", "vegan")),
            ("Ticket", ("adult", "child", "group")),
            ("Seat", ("window", "aisle")),
            ("Language", ("English", "French", "German")),
            ("Delivery", ("post", "pick-up")),
            ("Colour", ("red", "blue", "green")),
            ("Class", ("first", "second")),
            ("Level", ("beginner", "expert")),
        ),
        caption=(
            "A form titled {title} with the fields {labels}.",
            "A form with {count} fields, {labels}; its title is {title}.",
        ),
        detail="Filled in are: {fields}.",
        empty="Left empty: {labels}.",
        ticked="For {label}, the options are {options}, and {ticked} is ticked.",
        ask_title=("What is the title of the form?", "What is written at the top of the form?"),
        ask_label=("Which field contains {value}?", "What is the label of the field with {value}?"),
        ask_below=("Which field comes right below {label}?", "Which label stands below {label}?"),
        ask_num_fields=("How many fields does the form have?", "Count the fields."),
        ask_num_empty=("How many fields are left empty?", "How many fields are not filled in?"),
        ask_which_empty=("Which field is left empty?", "Which field is not filled in?"),
        ask_ticked=("Which option is ticked for {label}?", "Which {label} is chosen?"),
        ask_num_options=("How many options are there for {label}?",),
    ),
    letter=LetterPhrases(
        greetings=("Dear {person},", "Hello {person},", "Good morning {person},"),
        closings=("Yours,", "Best wishes,", "Kind regards,", "See you soon,", "With thanks,"),
        page=("page {number}", "- {number} -", "p. {number}"),
        caption=(
            "A letter from {sender} to {recipient}, dated {date}.",
            "A letter to {recipient}, written by {sender} on {date}.",
        ),
        detail='It reads: "{greeting} {text} {closing} {sender}". Below stands: {page}.',
        stamp="A {colour} stamp says {stamp}.",
        ask_line=("What is the {nth} line of the text?", "Read the {nth} line below the greeting."),
        ask_num_lines=(
            "How many lines are there between the greeting and the closing?",
            "How many lines does the text below the greeting have, without the closing?",
        ),
        ask_first_word=("What is the first word of the {nth} line of the text?",),
        ask_last_word=("What is the last word of the {nth} line of the text?",),
        ask_recipient=("To whom is the letter written?", "Who is addressed in the greeting?"),
        ask_sender=("Who signed the letter?", "Who wrote the letter?"),
        ask_date=("What is the date of the letter?", "When was the letter written?"),
        ask_page=("What is the page number?", "Which page number does the letter have?"),
        ask_stamp=("What does the stamp say?", "Which word is stamped on the letter?"),
        ask_stamp_colour=("What colour is the stamp?", "In which colour is the stamp?"),
        ask_where_date=("Where on the page is the date?",),
        ask_where_page=("Where on the page is the page number?",),
        ask_where_stamp=("Where on the page is the stamp?",),
    ),
    board=BoardPhrases(
        caption=(
            "A board with {count} notes: {texts}.",
            "{count} coloured notes on a board. They say {texts}.",
        ),
        detail="The note at the {place} is {colour} and says {text}.",
        note="{text}",
        ask_at=("What is written at the {place}?", "What does the note at the {place} say?"),
        ask_where=('Where is the note "{text}"?', 'In which place is "{text}" written?'),
        ask_colour=('What colour is the note "{text}"?', 'On which colour is "{text}" written?'),
        ask_of_colour=("What does the {colour} note say?", "What is written on the {colour} note?"),
        ask_count=("How many notes are there?", "Count the notes."),
    ),
    poster=PosterPhrases(
        entry=("Entry: {price}", "Tickets {price}", "Price: {price}"),
        free="free",
        phone="Phone {phone}",
        caption=(
            "A poster for {event} on {date} at {place}.",
            "A poster that announces {event}; it takes place at {place} on {date}.",
        ),
        detail=(
            "It begins at {time}, the price is {price}, and the phone number is {phone}. "
            "The title stands on a {colour} band."
        ),
        ask_event=("Which event is announced?", "What is the poster for?", "What is the title?"),
        ask_date=("On which date is the event?", "When does it take place?"),
        ask_time=("At what time does it begin?", "At which time does the event start?"),
        ask_place=("Where does the event take place?", "What is the place of the event?"),
        ask_price=("What is the price?", "How much does it cost to get in?"),
        ask_phone=("What is the phone number?", "Which number can one call?"),
        ask_band=("What colour is the band behind the title?",),
    ),
)
