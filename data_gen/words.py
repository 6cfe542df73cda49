"""Plain nouns -> the names of tables and columns; two-piece names come as grids of first and later pieces."""

from __future__ import annotations

from data_gen.schema import SqlType

Grid = tuple[str, str]
"""First pieces and later pieces; every pair of them is a name, and a fixed third of the pairs is held out."""

FULL_TABLES = """
    artists albums airports animals assets athletes auctions authors bakers banks bicycles boats books
    bottles bridges brokers buildings buses buyers cabins cameras campaigns canals cars castles chefs
    cities clients clinics clubs coaches coins comets companies concerts contracts couriers courses crews
    dancers dealers dentists deserts devices doctors drivers drones engines events exams farms ferries
    festivals films flights forests galleries gardens guests harbors hospitals hotels houses invoices
    islands journals kitchens lakes lawyers lessons libraries loans machines magazines medals members mines
    museums nurses offices orchards orders painters parcels parks patients payments phones photos pilots
    planets plants players poems posters printers products projects recipes refunds rentals restaurants
    rivers robots sailors schools sensors servers ships shops singers songs stadiums stars stations stores
    students suppliers surveys teachers teams tenants theaters tickets tools towns toys trains trucks
    tunnels users vaccines valleys vehicles vendors villages wallets warehouses winners workers yachts zoos
"""

FULL_COLUMNS: dict[SqlType, str] = {
    "INTEGER": """
        age quantity stock score points pages seats rooms floors votes wins losses goals laps stops steps
        doors wheels copies visits clicks downloads calls hits errors pixels grams calories mileage
        population capacity attendance children pets shelves boxes pallets tiles nodes chapters awards
    """,
    "REAL": """
        price cost fee salary wage weight height width depth speed rating discount tax profit revenue
        margin budget balance debt bonus rent area volume radius altitude latitude longitude temperature
        humidity pressure voltage power energy density distance dose income premium deposit dividend
        thickness torque brightness
    """,
    "TEXT": """
        name title color brand genre category country city street address email phone nickname language
        author editor publisher code model material shape flavor style theme mood motto district province
        continent species breed habitat diet gender occupation department division degree sponsor captain
        nationality currency warranty fabric texture scent season weather terrain climate severity symbol
        barcode website surname hometown signature
    """,
    "DATE": """
        birthday anniversary deadline opened closed founded released expired shipped delivered published
        graduated married retired hired launched arrival departure checkout renewal expiry enrolled
        installed inspected repaired booked sold purchased harvested planted
    """,
}

FULL_TABLE_GRIDS: tuple[Grid, ...] = (
    ("summer winter school city river", "trips clubs contests markets"),
    ("sales field night bank harbor", "staff teams shifts reports"),
)

FULL_COLUMN_GRIDS: dict[SqlType, tuple[Grid, ...]] = {
    "REAL": (("unit net gross base retail", "price cost fee tax"),),
    "INTEGER": (("seat room page shelf stock", "level size quota score"),),
    "TEXT": (("home work billing legal local", "name address city code"),),
    "DATE": (("order start due ship hire", "date day deadline"),),
}

DEMO_TABLES = """
    cars books songs films games shops teams parks ships farms banks clubs boats trees birds coins toys
    tools roads lakes rooms maps cups hats
"""

DEMO_COLUMNS: dict[SqlType, str] = {
    "INTEGER": "age stock score level pages seats votes wins doors",
    "REAL": "price cost fee tax weight height width speed rating",
    "TEXT": "name title color brand city email phone code genre",
    "DATE": "opened closed founded sold hired birthday booked shipped deadline",
}

DEMO_TABLE_GRIDS: tuple[Grid, ...] = (
    ("city river school", "clubs shops parks"),
    ("bank farm film", "teams tools maps"),
)

DEMO_COLUMN_GRIDS: dict[SqlType, tuple[Grid, ...]] = {
    "REAL": (("unit net base", "price cost fee"),),
    "INTEGER": (("seat room page", "level score stock"),),
    "TEXT": (("home work shop", "name city code"),),
    "DATE": (("order start due", "date day deadline"),),
}
