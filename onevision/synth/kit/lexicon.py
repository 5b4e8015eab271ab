"""Lists of English words that pages, charts and tables are filled with."""

from onevision.synth.kit.words import split

FIRST_NAMES = split("""
    Ada, Adam, Alice, Amir, Anna, Ben, Bella, Boris, Carla, Carlos, Chloe, Clara, Dana, David,
    Diego, Dora, Edgar, Elena, Emil, Emma, Eric, Eva, Farid, Felix, Fiona, Frank, Gina, Grace,
    Hanna, Hugo, Inga, Iris, Ivan, Jack, James, Jana, Jonas, Julia, Karim, Kate, Kenji, Lara, Leo,
    Lena, Liam, Lily, Louis, Lucy, Luis, Maria, Mark, Marta, Max, Mei, Mila, Nadia, Nina, Noah,
    Nora, Olga, Oscar, Otto, Paul, Petra, Priya, Rahul, Rosa, Ruth, Samir, Sara, Simon, Sofia,
    Stella, Theo, Tom, Vera, Victor, Wanda, Yara, Yusuf, Zoe
""")
SURNAMES = split("""
    Adams, Baker, Becker, Bell, Berg, Brown, Carter, Chen, Clark, Costa, Diaz, Evans, Fischer, Ford,
    Fox, Garcia, Green, Haas, Hall, Hansen, Hill, Hughes, Ivanov, Jensen, Jones, Kaya, Keller, Khan,
    King, Klein, Kumar, Lang, Lee, Lopez, Martin, Meyer, Miller, Moore, Morris, Nguyen, Novak,
    Olsen, Park, Patel, Perez, Reed, Rossi, Sato, Scott, Silva, Singh, Smith, Stone, Suzuki, Tanaka,
    Taylor, Turner, Vogel, Walker, Weber, White, Wilson, Wood, Wright, Young, Zhang
""")
CITIES = split("""
    Amsterdam, Ankara, Athens, Bangkok, Barcelona, Beijing, Berlin, Bern, Bogota, Boston, Brussels,
    Cairo, Chicago, Dakar, Delhi, Denver, Dublin, Geneva, Hanoi, Havana, Helsinki, Jakarta, Kyiv,
    Kyoto, Lagos, Lima, Lisbon, London, Lyon, Madrid, Manila, Milan, Moscow, Mumbai, Munich,
    Nairobi, Naples, Osaka, Oslo, Ottawa, Paris, Perth, Porto, Prague, Quito, Riga, Rome, Seoul,
    Seville, Sofia, Sydney, Tallinn, Tokyo, Toronto, Tunis, Turin, Vienna, Vilnius, Warsaw, Zagreb,
    Zurich
""")
COUNTRIES = split("""
    Brazil, Canada, Chile, China, Cuba, Egypt, France, Germany, Ghana, Greece, Iceland, India, Iran,
    Ireland, Italy, Japan, Kenya, Korea, Mexico, Morocco, Nepal, Nigeria, Norway, Peru, Poland,
    Spain, Sweden, Turkey, Vietnam
""")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FULL_WEEKDAYS = (*("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),)
FRUITS = split("""
    Apples, Apricots, Bananas, Cherries, Dates, Figs, Grapes, Kiwis, Lemons, Limes, Mangos, Melons,
    Olives, Oranges, Papayas, Peaches, Pears, Plums
""")
ANIMALS = split("""
    Bears, Camels, Cats, Cows, Deer, Dogs, Ducks, Eagles, Foxes, Frogs, Geese, Goats, Horses, Lions,
    Llamas, Mice, Monkeys, Otters, Owls, Parrots, Penguins, Rabbits, Seals, Sheep, Snakes, Swans,
    Tigers, Wolves
""")
SPORTS = split("""
    Archery, Boxing, Chess, Climbing, Cricket, Cycling, Dancing, Diving, Fencing, Football, Golf,
    Hiking, Hockey, Judo, Karate, Rowing, Rugby, Running, Sailing, Skating, Skiing, Surfing,
    Swimming, Tennis, Yoga
""")
SUBJECTS = split("""
    Art, Biology, Chemistry, Civics, Drama, English, French, Geography, German, History, Latin,
    Maths, Music, Physics, Spanish, Sport
""")
DEPARTMENTS = split("""
    Design, Finance, Kitchen, Legal, Logistics, Marketing, Office, Planning, Press, Production,
    Research, Safety, Sales, Service, Stock, Training
""")
DRINKS = split("""
    Cider, Cocoa, Coffee, Cola, Espresso, Juice, Latte, Lemonade, Milk, Mocha, Smoothies, Soda, Tea,
    Water
""")
VEHICLES = split("""
    Bicycles, Boats, Buses, Cars, Ferries, Jeeps, Planes, Scooters, Taxis, Tractors, Trains, Trams,
    Trucks, Vans
""")
EXPENSES = split("""
    Books, Clothes, Energy, Food, Fuel, Gifts, Health, Hobbies, Insurance, Internet, Loans, Pets,
    Phone, Rent, Repairs, Savings, School, Sport, Taxes, Travel, Water
""")
JOBS = split("""
    Actor, Baker, Carpenter, Chef, Dentist, Doctor, Driver, Editor, Farmer, Florist, Gardener,
    Guide, Judge, Lawyer, Nurse, Painter, Pilot, Plumber, Sailor, Singer, Tailor, Teacher,
    Translator, Waiter, Writer
""")
HOBBIES = split("""
    Baking, Chess, Cooking, Cycling, Dancing, Drawing, Fishing, Gardening, Hiking, Knitting,
    Painting, Photos, Pottery, Puzzles, Reading, Running, Sailing, Sewing, Singing, Skating,
    Theatre, Yoga
""")
GOODS = split("""
    Apple Pie, Bagel, Batteries, Blanket, Bread, Brush, Butter, Candle, Carrots, Cereal, Cheese,
    Chocolate, Coffee, Cookies, Cup, Eggs, Envelope, Flour, Garlic, Ginger, Gloves, Glue, Green Tea,
    Ham, Honey, Ice Cream, Jam, Ketchup, Lamp, Lemon, Lettuce, Marker, Milk, Mirror, Muffin,
    Mustard, Napkins, Notebook, Nuts, Olive Oil, Onions, Orange Juice, Pasta, Peanuts, Pen, Pepper,
    Pizza, Potatoes, Rice, Ruler, Salad, Salt, Sandwich, Scarf, Scissors, Shampoo, Soap, Socks,
    Soup, Sponge, Sugar, Tape, Tea, Tofu, Tomatoes, Toothpaste, Towel, Tuna, Umbrella, Vase,
    Vinegar, Walnuts, Water, Yoghurt
""")
STREETS = split("""
    Apple Lane, Bridge Street, Castle Road, Cedar Avenue, Church Street, Elm Street, Forest Road,
    Garden Lane, Harbour Road, High Street, Hill Road, King Street, Lake Avenue, Maple Street,
    Market Square, Mill Lane, North Road, Oak Avenue, Park Road, Pine Street, Queen Street,
    River Road, School Lane, Station Road, Sunset Avenue, Valley Road, Water Street, Willow Lane
""")
SHOPS = split("""
    Blue Door Books, City Market, Corner Cafe, Daily Bread, Fresh and Co, Golden Fork, Green Basket,
    Happy Pantry, Harbour Store, Hill Top Deli, Little Kitchen, Lucky Mart, Maple Foods,
    Moon Bakery, North Star Shop, Old Mill Store, Orange Tree, Paper and Pen, Red Barn,
    River Market, Silver Spoon, Sunny Grocer, Tiny Shop, Town Hall Cafe, Urban Pantry,
    Village Store, Wild Rose, Windmill
""")
