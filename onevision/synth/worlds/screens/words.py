"""The words on made-up screens: titles, messages, labels, and what people type into fields."""

from onevision.synth.kit.words import split

TITLES = split("""
    Export, Sign up, New contact, Order, Booking, Properties, Report, Invoice, Upload, Import,
    Profile, Feedback, Delivery, Backup, Survey, Account, Print page, New event, Add member,
    Share file, Library, Archive, Warning
""")
SETTINGS = split("""
    Settings, Preferences, Options, Privacy, Display, Network, Security, Accessibility, Storage,
    Sound, Privacy and safety, My device
""")
FILES = split("""
    notes.txt, budget.xlsx, photo.jpg, report.pdf, song.mp3, plan.docx, data.csv, letter.odt,
    map.png, movie.mp4, backup.zip, index.html, poem.md, menu.pdf
""")
MESSAGES = split("""
    Do you want to keep {}?, {} could not be opened., {} has been changed.,
    There is no room for {}., {} is in use by another program., The copy of {} is complete.,
    {} was not found., Replace {} with a newer file?, {} may contain a virus., Who may read {}?
""")
REMARKS = (
    *("Do not ask again", "Remember my choice", "Apply to all files", "Keep a copy"),
    *("Show details", "Send a report"),
)
TICKS = ("ticked", "empty")
# A button is one of the labels of its purpose; the purpose does not give the label away.
BUTTONS = {
    "keep what you have done": ("Save", "Apply", "Store", "Keep"),
    "leave without doing anything": ("Cancel", "Close", "Back", "Quit"),
    "get rid of the file": ("Delete", "Remove", "Erase", "Trash"),
    "have it on paper": ("Print", "Plot", "Hard copy"),
    "pass it on to somebody": ("Share", "Send", "Forward", "Mail"),
    "try once more": ("Retry", "Repeat", "Again"),
    "read an explanation": ("Help", "Learn more", "Guide"),
    "make a second one like it": ("Copy", "Duplicate", "Clone"),
    "move to the following page": ("Next", "Continue", "Go on"),
}
CHECKS = split("""
    Spell check, Include pictures, Page numbers, Compress file, Show grid, Subtitles, Use cookies,
    Send newsletter, Hide password, Gift wrap, Read only, Both sides, Keep log, Play at start,
    Case sensitive, Full screen, Add date, Loop, Encrypt
""")
SWITCHES = split("""
    Wi-Fi, Bluetooth, Flight mode, Dark mode, Location, Hotspot, Vibration, Night light, Auto save,
    Mobile data, Alarm, Backups, Captions, Large text, Screen lock, Updates, Roaming, Quiet hours,
    Face unlock, Rotation, Key tones
""")
SLIDERS = ("Volume", "Brightness", "Contrast", "Speed", "Zoom", "Opacity", "Bass", "Quality")
TABS = ("General", "View", "Sound", "Users", "Network", "Keys", "Mail", "Colours", "Tools", "About")
PHONE_TABS = ("Home", "Search", "Chats", "Profile", "Alerts", "Saved", "Music", "Shop", "News")
LISTS = {
    "Language": ("English", "French", "German", "Spanish", "Turkish", "Hindi", "Swahili"),
    "Format": ("PNG", "JPEG", "PDF", "TIFF", "SVG", "GIF"),
    "Paper": ("A3", "A4", "A5", "Letter", "Legal"),
    "Month": ("January", "March", "April", "June", "August", "October", "December"),
    "Country": ("Chile", "Ghana", "India", "Japan", "Kenya", "Norway", "Peru", "Spain"),
    "Font": ("Arial", "Courier", "Georgia", "Times", "Verdana"),
    "Units": ("Metres", "Feet", "Inches", "Miles"),
}
OPTIONS = {
    "Size": ("Small", "Medium", "Large", "Huge"),
    "Payment": ("Card", "Cash", "Invoice", "Voucher"),
    "Delivery": ("Post", "Courier", "Pick-up"),
    "Layout": ("List", "Grid", "Columns", "Cards"),
    "Seat": ("Window", "Aisle", "Middle"),
    "Drink": ("Tea", "Coffee", "Juice", "Water"),
    "Repeat": ("Never", "Daily", "Weekly", "Monthly"),
    "Answer": ("Agree", "Disagree", "No opinion"),
}
FIELDS = {
    "Name": split("""
        Ada Lind, Ben Okoro, Carla Ruiz, Dan Moss, Eva Novak, Finn Berg, Gita Rao, Hugo Silva,
        Inga Costa, Jack Ward, Kofi Mensah, Lena Frei, Mia Tanaka
    """),
    "City": split("""
        Lima, Oslo, Cairo, Paris, Quito, Delhi, Accra, Bern, Dublin, Tunis, Lagos, Kyoto, Porto,
        Riga, Hanoi, Austin, Leeds, Perth
    """),
    "Phone": ("555 0134", "555 0178", "555 0192", "555 0107", "555 0151", "555 0163", "555 0129"),
    "Company": ("Acorn Ltd", "Blue Door", "Cedar & Co", "Delta Mill", "Elm Press", "Fox Trade"),
    "Street": ("12 Hill Road", "7 Oak Lane", "48 Mill St", "3 Park Row", "91 Bay View"),
    "Subject": ("Lost keys", "New order", "Thank you", "Question", "Late train", "Summer fair"),
    "Age": tuple(str(n) for n in range(16, 90)),
    "Amount": tuple(str(n) for n in range(5, 500, 7)),
    "Job": ("Baker", "Nurse", "Pilot", "Teacher", "Farmer", "Clerk", "Singer", "Painter"),
    "Room": tuple(str(n) for n in range(101, 140)),
    "Date": ("3 May", "14 July", "21 June", "30 March", "8 April", "17 August", "25 October"),
    "Code": ("K7-442", "B3-908", "X9-175", "M2-630", "R5-281", "T4-519"),
}
MENUS = {
    "File": ("New", "Open", "Close", "Save as", "Print", "Rename", "Export", "Versions"),
    "Edit": ("Undo", "Redo", "Cut", "Copy", "Paste", "Find", "Replace", "Select all"),
    "View": ("Zoom in", "Zoom out", "Rulers", "Grid", "Side bar", "Full screen", "Outline"),
    "Insert": ("Picture", "Table", "Chart", "Link", "Comment", "Footnote", "Page break"),
    "Format": ("Bold", "Italic", "Underline", "Bullets", "Columns", "Spacing", "Capitals"),
    "Tools": ("Spelling", "Word count", "Macros", "Dictionary", "Compare", "Translate"),
    "Window": ("Minimise", "Split", "Arrange", "Next window", "Bring to front", "Zoom"),
    "Table": ("Add row", "Add column", "Merge cells", "Sort", "Delete row", "Borders"),
}
MODIFIERS = ("Ctrl", "Alt")
KEYS = tuple("ABCDEGHJKLMNPQRSTUVWXYZ")
APPS = split("""
    Mail, Maps, Music, Clock, Photos, Chat, News, Bank, Notes, Radio, Books, Games, Shop, Weather,
    Health, Camera, Files, Tasks, Taxi, Trains, Podcast, Wallet, Phone, Video, Recipes, Travel
""")
