"""Plain nouns -> the names of tables and columns with other ways to say them, text values and foreign keys.

Two-piece names come as grids of first and later pieces.
"""

from __future__ import annotations

from typing import Literal

ColumnType = Literal["INTEGER", "REAL", "TEXT", "DATE", "BOOLEAN"]
"""What a column holds; `lexicon.py` says how CREATE TABLE may spell it."""
Grid = tuple[str, str]
"""First pieces and later pieces; every pair of them is a name, and a fixed third of the pairs is held out."""

FULL_TABLES = """
    accountants | accountant | bookkeepers, accounting staff
    accounts | account | banking profiles, financial profiles
    actors | actor | movie performers, screen performers
    agencies | agency | service bureaus, representation bureaus
    agents | agent | representatives, sales representatives
    airports | airport | airfields, air terminals
    alarms | alarm | warning signals, alert signals
    albums | album | music releases, vinyl releases
    ambulances | ambulance | emergency transports, paramedic transports
    animals | animal | wild creatures, living creatures
    apartments | apartment | flats, rental flats
    appointments | appointment | reserved slots, scheduled slots
    aquariums | aquarium | fish tanks, aquatic tanks
    archers | archer | bowmen, longbowmen
    architects | architect | building planners, structural planners
    articles | article | news stories, press stories
    artists | artist | art creators, visual creators
    assets | asset | holdings, owned holdings
    astronauts | astronaut | space travelers, cosmonauts
    athletes | athlete | sports competitors, sportspeople
    auctions | auction | bidding sales, public sales
    auditors | auditor | financial examiners, compliance examiners
    authors | author | book writers, literary writers
    badges | badge | identity cards, access cards
    bakeries | bakery | bakehouses, bread outlets
    bakers | baker | bread makers, pastry cooks
    bands | band | rock ensembles, pop ensembles
    banks | bank | lending institutions, savings institutions
    barns | barn | farm sheds, livestock sheds
    batteries | battery | battery cells, electric cells
    beaches | beach | sandy shores, seaside shores
    beekeepers | beekeeper | apiarists, honey producers
    bicycles | bicycle | bikes, pedal bikes
    bids | bid | auction offers, placed offers
    birds | bird | feathered creatures, winged creatures
    blogs | blog | weblogs, online diaries
    boats | boat | watercraft, small watercraft
    books | book | printed volumes, bound volumes
    bottles | bottle | flasks, glass flasks
    boxers | boxer | prizefighters, ring fighters
    branches | branch | branch locations, branch sites
    breweries | brewery | beer makers, ale makers
    bridges | bridge | road crossings, river crossings
    brokers | broker | deal intermediaries, trade intermediaries
    buildings | building | edifices, built structures
    buses | bus | omnibuses, transit shuttles
    butchers | butcher | meat cutters, meat sellers
    buyers | buyer | purchasers, purchasing parties
    cabins | cabin | log huts, wooden huts
    cafes | cafe | coffee bars, espresso bars
    cameras | camera | photographic equipment, imaging equipment
    campaigns | campaign | marketing drives, promotional drives
    canals | canal | artificial waterways, man made waterways
    candidates | candidate | nominees, contenders
    canyons | canyon | gorges, ravines
    caravans | caravan | camper trailers, travel trailers
    carpenters | carpenter | woodworkers, joiners
    carpets | carpet | rugs, woven rugs
    cars | car | automobiles, private automobiles
    castles | castle | fortresses, medieval fortresses
    caves | cave | caverns, underground caverns
    ceremonies | ceremony | formal rites, rituals
    chairs | chair | armchairs, stools
    charities | charity | nonprofits, charitable foundations
    cheeses | cheese | dairy varieties, cheese varieties
    chefs | chef | head cooks, professional cooks
    churches | church | chapels, parish chapels
    cinemas | cinema | movie halls, film halls
    citizens | citizen | nationals, registered nationals
    claims | claim | coverage requests, compensation requests
    clients | client | clientele, business contacts
    cliffs | cliff | steep bluffs, rock faces
    clinics | clinic | outpatient centers, medical centers
    clowns | clown | jesters, circus jesters
    clubs | club | social societies, leisure associations
    coaches | coach | trainers, sports trainers
    coins | coin | metal money, minted money
    colleges | college | undergraduate campuses, vocational institutes
    comedians | comedian | comics, standup comics
    comets | comet | icy celestial bodies, tailed celestial bodies
    companies | company | corporations, business firms
    complaints | complaint | grievances, filed grievances
    components | component | machine parts, spare parts
    composers | composer | songwriters, music writers
    computers | computer | workstations, desktop workstations
    concerts | concert | live shows, live performances
    conferences | conference | conventions, industry summits
    consultants | consultant | advisers, business advisers
    containers | container | freight crates, shipping crates
    contracts | contract | signed agreements, legal agreements
    counties | county | shires, local jurisdictions
    coupons | coupon | vouchers, promo vouchers
    couriers | courier | delivery riders, dispatch riders
    courses | course | study programs, training programs
    courts | court | tribunals, law tribunals
    cows | cow | cattle, dairy cattle
    cranes | crane | hoists, construction hoists
    craters | crater | impact pits, impact basins
    creditors | creditor | lenders, money lenders
    crews | crew | onboard personnel, ship personnel
    critics | critic | reviewers, arts reviewers
    cruises | cruise | sea voyages, holiday voyages
    curators | curator | collection keepers, museum keepers
    customers | customer | patrons, paying patrons
    cyclists | cyclist | bike riders, bicycle riders
    dams | dam | river barriers, water barriers
    dancers | dancer | ballet performers, dance performers
    dealers | dealer | resellers, trade resellers
    dentists | dentist | dental practitioners, dental specialists
    deserts | desert | arid lands, desert lands
    designers | designer | design professionals, design specialists
    desks | desk | work benches, study benches
    detectives | detective | crime investigators, private investigators
    devices | device | gadgets, electronic gadgets
    diamonds | diamond | gemstones, cut gemstones
    diplomats | diplomat | envoys, foreign envoys
    directors | director | film makers, movie makers
    diseases | disease | illnesses, medical conditions
    divers | diver | scuba swimmers, underwater swimmers
    docks | dock | piers, loading piers
    doctors | doctor | physicians, medical practitioners
    documents | document | paperwork, written files
    dogs | dog | canines, hounds
    donations | donation | charitable gifts, monetary gifts
    donors | donor | benefactors, gift givers
    dresses | dress | gowns, evening gowns
    drivers | driver | motorists, chauffeurs
    drones | drone | quadcopters, unmanned aircraft
    editions | edition | issues, printed issues
    elections | election | ballots, public ballots
    elevators | elevator | lifts, building lifts
    embassies | embassy | diplomatic missions, consulates
    employees | employee | payroll staff, salaried staff
    employers | employer | hiring firms, hiring organizations
    engines | engine | motors, combustion motors
    episodes | episode | installments, broadcast installments
    essays | essay | written papers, opinion papers
    events | event | planned occasions, public occasions
    exams | exam | tests, academic tests
    exhibits | exhibit | display items, display pieces
    expeditions | expedition | exploratory treks, exploration treks
    experiments | experiment | lab trials, scientific trials
    factories | factory | manufacturing sites, assembly sites
    farmers | farmer | growers, crop growers
    farms | farm | agricultural holdings, homesteads
    ferries | ferry | water shuttles, passenger shuttles
    festivals | festival | cultural fairs, public fairs
    films | film | movies, motion pictures
    firefighters | firefighter | firemen, fire brigade staff
    fleets | fleet | vessel squadrons, naval squadrons
    flights | flight | air journeys, plane journeys
    florists | florist | flower sellers, bouquet sellers
    flowers | flower | blooms, blossoms
    folders | folder | directories, file directories
    fonts | font | typefaces, printed typefaces
    forests | forest | woods, woodlands
    forums | forum | discussion boards, message boards
    fossils | fossil | petrified remains, prehistoric remains
    fountains | fountain | water features, public water jets
    franchises | franchise | branded chains, franchise chains
    fridges | fridge | refrigerators, food coolers
    funds | fund | investment pools, pooled investments
    galleries | gallery | art halls, art showrooms
    games | game | gaming titles, playable titles
    garages | garage | parking bays, repair bays
    gardens | garden | landscaped grounds, ornamental grounds
    gates | gate | boarding exits, terminal exits
    generators | generator | dynamos, diesel dynamos
    glaciers | glacier | ice sheets, ice masses
    greenhouses | greenhouse | glasshouses, hothouses
    guards | guard | watchmen, security staff
    guests | guest | invited visitors, hotel visitors
    guides | guide | tour leaders, trail leaders
    guitars | guitar | fretted instruments, stringed instruments
    gyms | gym | fitness centers, workout centers
    hangars | hangar | aircraft sheds, plane sheds
    harbors | harbor | seaports, ports
    helicopters | helicopter | choppers, rotor aircraft
    helmets | helmet | protective headgear, safety headgear
    highways | highway | motorways, interstate motorways
    hikers | hiker | trail walkers, backpackers
    hives | hive | bee colonies, bee nests
    horses | horse | steeds, riding steeds
    hospitals | hospital | infirmaries, medical infirmaries
    hostels | hostel | youth lodgings, dormitory lodgings
    hotels | hotel | lodging establishments, guest accommodations
    houses | house | family homes, detached homes
    incidents | incident | mishaps, reported mishaps
    inspections | inspection | quality checks, safety checks
    inspectors | inspector | quality checkers, site checkers
    insurers | insurer | insurance providers, coverage providers
    interns | intern | apprentices, junior apprentices
    interviews | interview | hiring talks, recruitment talks
    inventions | invention | patented ideas, technical innovations
    inventors | inventor | innovators, patent holders
    investors | investor | capital backers, equity backers
    invoices | invoice | bills, billing statements
    islands | island | isles, offshore isles
    jackets | jacket | coats, outdoor coats
    jobs | job | career positions, open positions
    journals | journal | scholarly periodicals, academic periodicals
    judges | judge | magistrates, court magistrates
    keyboards | keyboard | typing keypads, computer keypads
    kingdoms | kingdom | realms, royal realms
    kiosks | kiosk | booths, vending booths
    kitchens | kitchen | cooking spaces, food prep spaces
    knights | knight | armored horsemen, medieval horsemen
    laboratories | laboratory | research facilities, testing facilities
    lakes | lake | inland waters, freshwater basins
    lamps | lamp | reading lights, desk lights
    landlords | landlord | property owners, letting owners
    laptops | laptop | notebooks, travel notebooks
    lawyers | lawyer | attorneys, legal counsel
    leagues | league | competition tiers, sports federations
    leases | lease | tenancy agreements, occupancy agreements
    lecturers | lecturer | seminar speakers, academic speakers
    lenses | lens | optics, camera optics
    lessons | lesson | teaching sessions, taught sessions
    libraries | library | book collections, lending collections
    lighthouses | lighthouse | beacons, coastal beacons
    lions | lion | maned felines, african felines
    loans | loan | credit advances, bank credits
    machines | machine | industrial equipment, mechanical equipment
    magazines | magazine | periodicals, glossy periodicals
    magicians | magician | conjurers, stage conjurers
    marathons | marathon | endurance races, road races
    mayors | mayor | civic heads, town heads
    meals | meal | dishes, served dishes
    mechanics | mechanic | repair technicians, auto technicians
    medals | medal | sports honors, honorary decorations
    meetings | meeting | gatherings, staff gatherings
    members | member | dues payers, membership holders
    menus | menu | dish selections, food selections
    messages | message | chat texts, text communications
    miners | miner | pit laborers, coal diggers
    mines | mine | ore pits, mineral pits
    ministers | minister | cabinet politicians, cabinet secretaries
    monasteries | monastery | abbeys, cloistered abbeys
    monuments | monument | memorials, landmarks
    moons | moon | lunar bodies, orbiting bodies
    mountains | mountain | peaks, tall peaks
    murals | mural | frescoes, wall frescoes
    museums | museum | heritage halls, historical institutions
    musicians | musician | instrumentalists, instrument performers
    neighborhoods | neighborhood | urban quarters, residential quarters
    newspapers | newspaper | gazettes, daily gazettes
    novels | novel | prose fiction, fiction works
    nurses | nurse | caregivers, ward caregivers
    offices | office | business suites, office suites
    operas | opera | sung dramas, musical dramas
    orchards | orchard | fruit groves, fruit plantations
    orchestras | orchestra | symphonic ensembles, classical ensembles
    orders | order | purchases, purchase requests
    ovens | oven | baking stoves, roasting stoves
    painters | painter | canvas creators, portraitists
    paintings | painting | canvases, framed canvases
    palaces | palace | royal residences, imperial residences
    parades | parade | processions, marching processions
    parcels | parcel | packages, mailed packages
    parks | park | public greens, recreation grounds
    passengers | passenger | boarding travelers, ticketed travelers
    passports | passport | travel booklets, identity booklets
    patients | patient | treated persons, medical cases
    payments | payment | money transfers, settled amounts
    permits | permit | authorizations, official authorizations
    petitions | petition | public appeals, signed appeals
    pharmacies | pharmacy | drugstores, dispensaries
    photos | photo | pictures, snapshots
    pilots | pilot | aviators, plane aviators
    pipelines | pipeline | oil conduits, gas conduits
    planets | planet | worlds, orbiting worlds
    plants | plant | green vegetation, botanical specimens
    players | player | game participants, roster participants
    playgrounds | playground | play areas, kids play areas
    playlists | playlist | curated mixes, music mixes
    podcasts | podcast | audio shows, talk shows
    poems | poem | verses, verse pieces
    poets | poet | verse writers, poem writers
    policies | policy | coverage plans, insurance plans
    ponds | pond | duck pools, shallow pools
    portraits | portrait | likenesses, painted likenesses
    postcards | postcard | picture cards, mailed cards
    posters | poster | placards, wall prints
    prescriptions | prescription | medication scripts, drug scripts
    printers | printer | printing equipment, printing units
    prisoners | prisoner | inmates, convicts
    prisons | prison | jails, penitentiaries
    products | product | goods, merchandise items
    professors | professor | tenured academics, faculty academics
    programmers | programmer | software developers, software engineers
    projects | project | work initiatives, planned initiatives
    prototypes | prototype | trial builds, test builds
    puppets | puppet | marionettes, string marionettes
    pyramids | pyramid | pharaoh tombs, ancient tombs
    quizzes | quiz | trivia tests, short tests
    radios | radio | radio receivers, broadcast receivers
    railways | railway | rail networks, track networks
    ranches | ranch | cattle estates, livestock estates
    receipts | receipt | sales slips, till slips
    recipes | recipe | cooking instructions, dish instructions
    referees | referee | match officials, sports officials
    refineries | refinery | petroleum works, oil processors
    refunds | refund | reimbursements, money reimbursements
    regions | region | geographic territories, administrative territories
    rentals | rental | hire agreements, hire bookings
    reporters | reporter | correspondents, news correspondents
    reptiles | reptile | scaly creatures, cold blooded creatures
    researchers | researcher | scientists, academic investigators
    reservations | reservation | bookings, advance bookings
    reservoirs | reservoir | storage cisterns, water cisterns
    residents | resident | inhabitants, local inhabitants
    resorts | resort | vacation getaways, holiday retreats
    restaurants | restaurant | eateries, dining spots
    reviews | review | written opinions, feedback opinions
    rivers | river | streams, natural waterways
    robots | robot | androids, automatons
    rockets | rocket | launch boosters, orbital boosters
    routers | router | network gateways, wireless gateways
    routes | route | travel paths, transit paths
    runners | runner | sprinters, foot racers
    sailors | sailor | mariners, seafarers
    sandwiches | sandwich | filled rolls, filled buns
    satellites | satellite | orbital spacecraft, communication spacecraft
    scanners | scanner | image digitizers, flatbed digitizers
    scholarships | scholarship | stipends, study stipends
    schools | school | learning institutions, primary academies
    scooters | scooter | mopeds, electric mopeds
    scouts | scout | talent spotters, prospect spotters
    sculptors | sculptor | stone carvers, marble carvers
    sculptures | sculpture | statues, carved figures
    seeds | seed | sowing grains, seed kernels
    sensors | sensor | probes, measuring probes
    servers | server | network hosts, rack hosts
    shelters | shelter | refuge homes, rescue homes
    shepherds | shepherd | flock herders, sheep herders
    shipments | shipment | consignments, cargo consignments
    ships | ship | ocean vessels, seagoing vessels
    shipyards | shipyard | vessel builders, hull builders
    shoes | shoe | footwear, leather footwear
    shops | shop | boutiques, retail boutiques
    singers | singer | vocalists, lead vocalists
    skaters | skater | skating competitors, ice sport competitors
    skiers | skier | skiing competitors, downhill racers
    soldiers | soldier | troops, army troops
    songs | song | music tracks, recorded tracks
    speeches | speech | orations, public orations
    spices | spice | seasonings, culinary seasonings
    stables | stable | horse quarters, equine quarters
    stadiums | stadium | arenas, sports arenas
    stars | star | suns, distant suns
    stations | station | transit halts, train halts
    stores | store | outlets, retail outlets
    students | student | pupils, learners
    studios | studio | recording spaces, creative spaces
    subscribers | subscriber | newsletter readers, paying readers
    subscriptions | subscription | recurring memberships, monthly memberships
    suburbs | suburb | outskirts, residential outskirts
    suppliers | supplier | wholesale providers, supply providers
    surgeons | surgeon | operating physicians, surgical specialists
    surgeries | surgery | medical operations, surgical operations
    surveys | survey | questionnaires, opinion polls
    tailors | tailor | suit makers, garment makers
    tasks | task | todos, assigned duties
    taverns | tavern | inns, roadside inns
    taxis | taxi | cabs, metered cabs
    teachers | teacher | educators, instructors
    teams | team | squads, sports squads
    telescopes | telescope | stargazing scopes, astronomy scopes
    temples | temple | shrines, sacred shrines
    tenants | tenant | renters, occupants
    tents | tent | camping canopies, canvas canopies
    theaters | theater | playhouses, drama halls
    therapists | therapist | counselors, wellness counselors
    tickets | ticket | admission passes, entry passes
    tigers | tiger | striped felines, asian felines
    tires | tire | wheel treads, rubber treads
    tools | tool | implements, hand implements
    tourists | tourist | vacationers, sightseers
    tournaments | tournament | competitions, knockout competitions
    tours | tour | excursions, guided excursions
    towers | tower | turrets, spires
    towns | town | municipalities, municipal settlements
    toys | toy | playthings, kids playthings
    tractors | tractor | plowing rigs, tilling rigs
    trainees | trainee | recruits, novice recruits
    trains | train | rail services, railroad services
    trams | tram | streetcars, electric streetcars
    translators | translator | interpreters, text interpreters
    treaties | treaty | accords, international accords
    trees | tree | grown timber, standing timber
    tribes | tribe | clans, native clans
    trophies | trophy | cups, victory cups
    trucks | truck | lorries, freight lorries
    tunnels | tunnel | underground passages, subterranean passages
    turbines | turbine | bladed rotors, spinning rotors
    tutors | tutor | private instructors, homework helpers
    uniforms | uniform | duty outfits, work outfits
    universities | university | doctoral campuses, graduate institutes
    users | user | login identities, registered logins
    vaccines | vaccine | immunizations, immunization shots
    valleys | valley | dales, lowland dales
    vans | van | minivans, cargo minivans
    vaults | vault | safes, safe chambers
    vehicles | vehicle | motorized transports, wheeled transports
    vendors | vendor | sellers, goods sellers
    venues | venue | event spaces, hosting spaces
    videos | video | clips, recorded clips
    villages | village | hamlets, rural hamlets
    villas | villa | manors, seaside manors
    vineyards | vineyard | grape estates, wine estates
    volcanoes | volcano | lava vents, erupting peaks
    volunteers | volunteer | helpers, unpaid helpers
    voters | voter | electors, registered electors
    waiters | waiter | dining attendants, serving staff
    wallets | wallet | purses, billfolds
    warehouses | warehouse | storage depots, storage facilities
    waterfalls | waterfall | cascades, water cascades
    weddings | wedding | marriage celebrations, bridal celebrations
    wines | wine | vintages, fine vintages
    winners | winner | victors, contest victors
    witnesses | witness | sworn observers, trial observers
    workers | worker | laborers, manual laborers
    workshops | workshop | training sessions, practical sessions
    wrestlers | wrestler | grapplers, mat grapplers
    yachts | yacht | luxury cruisers, pleasure cruisers
    zoos | zoo | wildlife enclosures, wildlife sanctuaries
"""
"""A line per table: `plural | singular | synonym, synonym`; the singular names a foreign key, `order_id`."""

FULL_COLUMNS: dict[ColumnType, str] = {
    "INTEGER": """
        age | years lived, years alive
        quantity | item amount, unit amount
        stock | inventory level, units on hand
        score | test mark, final mark
        points | earned credits, loyalty credits
        pages | page count, sheet count
        seats | seat count, seating places
        rooms | room count, chamber count
        floors | floor count, storey count
        votes | vote count, ballot count
        wins | win count, victory count
        losses | loss count, defeat count
        goals | goal count, goal tally
        laps | lap count, circuit count
        stops | stop count, halt count
        steps | step count, stride count
        doors | door count, doorway count
        wheels | wheel count, wheel tally
        copies | copy count, copy tally
        visits | visit count, visit tally
        clicks | click count, click tally
        downloads | download count, download tally
        calls | call count, call tally
        hits | hit count, hit tally
        errors | error count, mistake count
        pixels | pixel count, pixel tally
        grams | gram count, gram tally
        calories | calorie count, kcal count
        mileage | odometer reading, miles driven
        population | inhabitant count, people count
        capacity | occupancy limit, holding limit
        attendance | turnout, crowd turnout
        children | child count, offspring count
        pets | pet count, pet tally
        shelves | shelf count, rack count
        boxes | box count, carton count
        pallets | pallet count, skid count
        tiles | tile count, tile tally
        nodes | node count, vertex count
        chapters | chapter count, chapter tally
        awards | award count, honor count
        followers | follower count, fan count
        bedrooms | bedroom count, bedroom tally
        bathrooms | bathroom count, bathroom tally
        windows | window count, pane count
        lanes | lane count, lane tally
        assists | assist count, assist tally
        fouls | foul count, foul tally
        tackles | tackle count, tackle tally
        penalties | penalty count, penalty tally
        gears | gear count, gear tally
        cylinders | cylinder count, piston count
        horsepower | motor strength, engine strength
        megabytes | megabyte count, megabyte tally
        decibels | noise level, loudness level
        beds | bed count, cot count
        stitches | stitch count, suture count
        questions | question count, question tally
        answers | answer count, response count
        attempts | attempt count, try count
        warnings | warning count, alert count
        absences | absence count, absence tally
        duration | elapsed time, time span
        lifespan | life expectancy, length of life
        semesters | semester count, term count
        legs | leg count, limb count
        eggs | egg count, egg tally
        batches | batch count, lot count
        barrels | barrel count, cask count
        bags | bag count, sack count
        buttons | button count, button tally
        pockets | pocket count, pouch count
        ingredients | ingredient count, ingredient tally
        servings | serving count, portion count
        layers | layer count, layer tally
        arrests | arrest count, custody count
        shares | share count, stake count
        comments | comment count, remark count
        plays | play count, playback count
    """,
    "REAL": """
        price | amount charged, amount payable
        cost | expense, expenditure
        fee | service charge, handling charge
        tax | levy, government levy
        discount | markdown, rebate
        salary | yearly pay, annual pay
        wage | hourly pay, hourly earnings
        weight | mass, overall mass
        height | vertical extent, vertical size
        width | breadth, overall breadth
        depth | deepness, downward extent
        speed | velocity, travel velocity
        rating | quality grade, approval grade
        profit | financial gain, earnings surplus
        revenue | turnover, sales turnover
        margin | gross spread, sales spread
        budget | spending allowance, planned spending
        balance | remaining amount, money remaining
        debt | money owed, amount owed
        bonus | extra pay, reward pay
        rent | tenancy charge, monthly housing charge
        area | surface extent, square footage
        volume | cubic size, cubic content
        radius | half diameter, semidiameter
        altitude | elevation, flying elevation
        latitude | north coordinate, north south position
        longitude | east coordinate, east west position
        temperature | heat level, thermometer reading
        humidity | moisture level, air moisture
        pressure | barometer reading, compression force
        voltage | volts, electric potential
        power | wattage, wattage output
        energy | joules, stored joules
        density | compactness, denseness
        distance | journey length, travel length
        dose | medicine amount, prescribed amount
        income | household earnings, personal earnings
        premium | insurance charge, coverage charge
        deposit | upfront money, advance money
        dividend | shareholder payout, equity payout
        thickness | gauge, layer gauge
        torque | twisting force, rotational force
        brightness | luminance, light intensity
        fare | travel charge, transit charge
        tuition | schooling charge, teaching charge
        royalty | creator payout, licensing payout
        commission | seller cut, sales cut
        subsidy | state support, public support
        pension | retirement pay, retiree pay
        interest | borrowing rate, lending rate
        tip | gratuity, service gratuity
        toll | road charge, crossing charge
        postage | mailing charge, stamp charge
        overhead | fixed spending, indirect spending
        surcharge | extra charge, added charge
        valuation | appraised worth, estimated worth
        yield | crop output, harvest output
        rainfall | precipitation, rain amount
        snowfall | snow amount, snow accumulation
        visibility | sight range, viewing range
        acidity | acid level, acid content
        salinity | salt level, salt content
        hardness | firmness, scratch resistance
        elasticity | stretch factor, springiness
        viscosity | flow resistance, fluid resistance
        porosity | pore fraction, pore share
        purity | fineness, refinement level
        turbidity | cloudiness, murkiness
        frequency | hertz reading, repetition rate
        wavelength | wave length, crest spacing
        amplitude | wave swing, oscillation strength
        impedance | ohm reading, ohm level
        conductivity | conducting ability, conduction strength
        capacitance | farad reading, charge storage
        acceleration | rate of speedup, velocity gain
        momentum | moving impulse, motion impulse
        friction | rubbing drag, surface drag
        efficiency | output ratio, performance ratio
        accuracy | correctness, correctness level
        latency | response lag, network lag
        bandwidth | transfer rate, throughput rate
        uptime | service availability, online share
        probability | likelihood, chance in percent
        angle | inclination, tilt
        slope | incline, gradient
        circumference | girth, circle girth
        perimeter | boundary length, edge length
        wingspan | wing breadth, wingtip reach
        protein | amino content, amino acid content
        sugar | sweetener content, sucrose content
        fiber | roughage, roughage content
        fat | lipid content, grease content
        pulse | heart rate, heartbeat rate
        tonnage | cargo tons, hauled tons
        mortality | death rate, fatality rate
        fertility | fecundity, fecundity rate
        unemployment | jobless rate, jobless share
        literacy | literate share, literate percentage
        handicap | stroke allowance, golfing allowance
        odds | betting ratio, wager ratio
        magnitude | quake strength, seismic strength
    """,
    "TEXT": """
        glaze | surface coating, surface polish
        name | full designation, proper designation
        script | writing system, lettering system
        title | heading, headline
        color | hue, visible hue
        brand | trademark, maker label
        genre | creative kind, artistic form
        category | item class, classification
        country | nation, home nation
        city | urban locality, home locality
        street | road, roadway
        address | mailing location, postal location
        email | mailbox, electronic mailbox
        phone | telephone number, contact number
        nickname | moniker, informal moniker
        language | tongue, spoken tongue
        editor | manuscript reviser, text reviser
        publisher | publishing house, publishing firm
        code | reference number, lookup number
        model | make variant, product variant
        material | substance, raw substance
        shape | outline, outline form
        flavor | taste, taste profile
        style | design manner, stylistic manner
        theme | subject, central subject
        mood | feeling, emotional tone
        motto | slogan, guiding slogan
        district | borough, local borough
        province | federal state, administrative state
        continent | landmass, major landmass
        species | biological kind, taxonomic kind
        breed | pedigree, bloodline
        habitat | living environment, natural environment
        diet | eating regimen, feeding regimen
        gender | sex, stated sex
        occupation | profession, trade
        department | work unit, organizational unit
        division | corporate segment, business segment
        degree | diploma, academic qualification
        sponsor | financial backer, funding backer
        captain | skipper, squad skipper
        nationality | citizenship, legal citizenship
        currency | money unit, legal tender
        warranty | guarantee, guarantee terms
        fabric | cloth, textile
        texture | surface feel, tactile feel
        scent | smell, aroma
        season | time of year, annual phase
        weather | sky conditions, outdoor conditions
        terrain | landform, land relief
        climate | climatic belt, climatic zone
        severity | seriousness, gravity
        symbol | emblem, iconic emblem
        barcode | scan number, scannable number
        website | homepage, internet homepage
        surname | family designation, inherited designation
        hometown | native locality, native settlement
        signature | autograph, handwritten autograph
        status | current state, progress stage
        priority | importance, precedence
        description | explanation, explanatory text
        summary | overview, brief overview
        caption | picture text, image text
        username | login handle, screen handle
        password | login secret, access secret
        hashtag | social tag, trending tag
        hobby | pastime, favorite pastime
        religion | faith, faith practiced
        ethnicity | ethnic background, ethnic heritage
        dialect | regional accent, local accent
        specialty | expertise, field of expertise
        skill | ability, trained ability
        zipcode | postal number, zip number
        timezone | clock zone, hour zone
        soil | earth kind, ground kind
        cuisine | cooking tradition, culinary tradition
        allergen | allergy trigger, reaction trigger
        topping | garnish, sprinkled garnish
        pattern | motif, printed motif
        logo | company insignia, corporate insignia
        mascot | lucky character, team character
        tempo | musical pace, playing pace
        lyrics | song words, sung words
        narrator | storyteller, story voice
        protagonist | hero, main hero
        villain | antagonist, main antagonist
        plot | storyline, story arc
        diagnosis | identified ailment, medical finding
        symptom | illness sign, bodily sign
        treatment | therapy, healing therapy
        manufacturer | producer, producing firm
        protocol | communication standard, handshake standard
        encoding | character set, character scheme
        firmware | embedded software, chip software
        hostname | network label, host label
        domain | internet realm, web realm
        browser | web viewer, internet viewer
        license | usage terms, usage rights
        orientation | bearing, compass facing
        clearance | security grade, access grade
        payee | money recipient, cheque recipient
        sender | originator, mail originator
        carrier | hauling firm, transport firm
        suspect | accused person, alleged culprit
        motive | driving reason, underlying reason
        verdict | jury ruling, trial ruling
        weapon | armament, weaponry
        guardian | legal custodian, child custodian
        heir | inheritor, estate inheritor
        temperament | disposition, typical disposition
        zodiac | birth sign, astrological sign
        hairstyle | haircut, hair arrangement
        handedness | dominant hand, preferred hand
        tactic | strategy, playing strategy
    """,
    "DATE": """
        birthday | birth date, date of birth
        anniversary | commemoration date, commemoration day
        opened | opening date, opening day
        closed | closing date, closing day
        founded | founding date, establishment date
        released | release date, release day
        delivered | delivery date, handover date
        published | publication date, publication day
        graduated | graduation date, graduation day
        married | marriage date, marriage day
        retired | retirement date, retirement day
        launched | launch date, launch day
        arrival | incoming date, arriving date
        departure | leaving date, outgoing date
        checkout | hotel exit date, lodging exit date
        renewal | renewing date, extension date
        expiry | expiration date, lapse date
        enrolled | enrollment date, signup date
        installed | installation date, setup date
        inspected | inspection date, examination date
        repaired | repair date, fixing date
        booked | booking date, reservation date
        sold | sale date, selling date
        purchased | purchase date, buying date
        harvested | harvest date, harvest day
        planted | planting date, sowing date
        created | creation date, creation day
        updated | update date, modification date
        deleted | deletion date, removal date
        cancelled | cancellation date, cancellation day
        submitted | submission date, submission day
        resolved | resolution date, solution date
        adopted | adoption date, adoption day
        died | death date, death day
        baptized | baptism date, christening date
        divorced | divorce date, divorce day
        elected | election date, polling date
        promoted | promotion date, advancement date
        dismissed | dismissal date, firing date
        resigned | resignation date, quitting date
        vaccinated | vaccination date, immunization date
        admitted | admission date, intake date
        discharged | discharge date, discharge day
        manufactured | production date, manufacturing date
        assembled | assembly date, assembly day
        composed | composition date, songwriting date
        premiered | premiere date, debut date
        filmed | shooting date, filming date
        discovered | discovery date, discovery day
        excavated | excavation date, digging date
        restored | restoration date, restoration day
        demolished | demolition date, teardown date
        ratified | ratification date, ratification day
        audited | audit date, audit day
        serviced | service date, maintenance date
        calibrated | calibration date, calibration day
        borrowed | borrowing date, borrowing day
        donated | donation date, gift date
        invoiced | billing date, invoice date
        translated | translation date, translation day
        imported | import date, import day
        exported | export date, export day
        arrested | arrest date, arrest day
        convicted | conviction date, conviction day
        paroled | parole date, parole day
        hatched | hatching date, hatching day
        tested | test date, testing date
    """,
    "BOOLEAN": """
        active | activity flag, usage flag
        verified | verification flag, confirmation flag
        approved | approval flag, consent flag
        archived | archive flag, archival flag
        enabled | feature switch, enabling switch
        featured | spotlight flag, showcase flag
        paid | settlement flag, payment flag
        urgent | rush flag, urgency flag
        insured | insurance flag, coverage flag
        certified | certification flag, accreditation flag
        fragile | breakable flag, delicate flag
        waterproof | watertight flag, water resistance flag
        portable | portability flag, carry flag
        organic | pesticide free flag, chemical free flag
        recyclable | recycling flag, reuse flag
        flammable | fire hazard flag, fire risk flag
        refundable | money back flag, return flag
        taxable | levy flag, duty flag
        locked | lock flag, padlock flag
        hidden | concealment flag, invisibility flag
        damaged | damage flag, breakage flag
        vegan | animal free flag, plant based flag
        furnished | furniture flag, furnishing flag
        heated | heating flag, warming flag
        haunted | ghost flag, spook flag
        endangered | extinction risk flag, endangerment flag
        edible | eatable flag, food safety flag
        toxic | poison flag, toxicity flag
        mandatory | compulsory flag, obligation flag
    """,
}
"""A line per column of each type: `name | synonym, synonym`."""

VALUES = """
    amber crimson indigo scarlet violet teal maroon ivory beige coral olive lilac magenta khaki bronze silver
    copper granite velvet cotton linen denim paris london berlin tokyo madrid vienna dublin oslo cairo lima
    athens geneva lisbon prague warsaw boston chicago denver seattle toronto sydney delhi mumbai nairobi milan
    jazz blues disco polka waltz alice oliver emma henry clara felix nora oscar ruby simon walnut maple cedar
    birch willow lemon cherry mango peach vanilla mint ginger cobalt mercury saturn falcon otter badger salmon
    tulip orchid daisy monday tuesday friday sunday france brazil canada kenya norway japan italy nickel pearl
    topaz emerald sapphire rabbit turtle dolphin panda koala zebra
"""
"""Words that stand in text columns; none is a name or a word of a synonym."""

RELATIONS = """
    accountants companies
    accounts banks
    accounts customers
    actors agents
    actors theaters
    agents agencies
    airports counties
    airports regions
    alarms buildings
    alarms sensors
    albums artists
    albums bands
    albums studios
    ambulances hospitals
    animals farms
    animals shelters
    animals zoos
    apartments buildings
    apartments landlords
    appointments dentists
    appointments doctors
    appointments patients
    aquariums zoos
    archers clubs
    architects companies
    articles newspapers
    articles reporters
    assets companies
    astronauts rockets
    athletes coaches
    athletes teams
    auctions galleries
    auctions venues
    auditors companies
    badges employees
    badges guards
    bakeries towns
    bakers bakeries
    bands agencies
    banks companies
    barns farms
    batteries devices
    batteries scooters
    bicycles cyclists
    bicycles shops
    bids auctions
    bids buyers
    birds shelters
    blogs users
    boats harbors
    boats sailors
    books authors
    books libraries
    bottles factories
    bottles wines
    boxers coaches
    boxers gyms
    branches banks
    breweries towns
    bridges highways
    bridges rivers
    brokers agencies
    brokers banks
    buildings architects
    buildings neighborhoods
    buses drivers
    buses routes
    butchers shops
    cabins resorts
    cabins ships
    cafes bakeries
    campaigns agencies
    campaigns candidates
    canals regions
    candidates elections
    canyons deserts
    caravans tourists
    carpenters workshops
    carpets palaces
    cars dealers
    cars garages
    castles kingdoms
    caves mountains
    ceremonies temples
    chairs designers
    cheeses farms
    chefs kitchens
    chefs restaurants
    churches villages
    cinemas companies
    citizens regions
    claims insurers
    claims policies
    clients consultants
    clients lawyers
    cliffs beaches
    clinics hospitals
    clinics towns
    clowns festivals
    clubs leagues
    coaches teams
    coins kingdoms
    colleges universities
    comedians agents
    comets stars
    complaints customers
    complaints products
    components machines
    components suppliers
    composers orchestras
    computers offices
    concerts bands
    concerts stadiums
    concerts venues
    conferences venues
    containers docks
    containers ships
    contracts clients
    contracts lawyers
    contracts suppliers
    coupons stores
    couriers companies
    courses teachers
    courses universities
    courts counties
    cows barns
    cows farms
    cows ranches
    cranes docks
    craters moons
    creditors companies
    crews ships
    critics magazines
    critics newspapers
    cruises ships
    curators museums
    cyclists teams
    dams rivers
    dancers theaters
    dealers franchises
    dentists clinics
    desks offices
    detectives agencies
    devices users
    diamonds mines
    diplomats embassies
    directors studios
    divers clubs
    docks harbors
    doctors clinics
    doctors hospitals
    documents folders
    documents lawyers
    dogs shelters
    dogs shepherds
    donations charities
    donations donors
    dresses designers
    drivers companies
    drones pilots
    editions books
    elections counties
    elevators buildings
    elevators towers
    employees branches
    employees employers
    engines factories
    episodes podcasts
    essays students
    events venues
    exams courses
    exhibits museums
    expeditions guides
    experiments laboratories
    experiments researchers
    factories companies
    farmers villages
    farms farmers
    ferries harbors
    festivals towns
    films directors
    films studios
    firefighters stations
    flights airports
    flights pilots
    flowers florists
    flowers gardens
    fonts designers
    forests regions
    fossils museums
    fountains parks
    fridges kitchens
    funds banks
    funds investors
    galleries curators
    games studios
    garages houses
    gardens houses
    gardens palaces
    gates airports
    generators hospitals
    greenhouses farms
    guards museums
    guards prisons
    guests hotels
    guides agencies
    guitars musicians
    hangars airports
    harbors islands
    helicopters pilots
    helmets cyclists
    helmets firefighters
    hives beekeepers
    horses stables
    hospitals counties
    hospitals towns
    hostels landlords
    hotels resorts
    houses landlords
    houses suburbs
    incidents factories
    incidents guards
    inspections buildings
    inspections inspectors
    interns companies
    interviews candidates
    interviews jobs
    inventions inventors
    invoices customers
    invoices orders
    invoices suppliers
    jackets stores
    jobs employers
    journals universities
    judges courts
    keyboards computers
    kiosks parks
    kiosks stations
    kitchens restaurants
    knights castles
    knights kingdoms
    laboratories universities
    lakes valleys
    lamps desks
    laptops employees
    lawyers offices
    leases landlords
    leases tenants
    lecturers colleges
    lenses cameras
    lessons courses
    lessons tutors
    libraries universities
    lighthouses islands
    lions zoos
    loans banks
    loans customers
    machines factories
    magazines companies
    magicians theaters
    marathons towns
    mayors towns
    meals restaurants
    mechanics garages
    medals athletes
    medals tournaments
    meetings projects
    members clubs
    members gyms
    menus cafes
    menus restaurants
    messages forums
    messages users
    miners mines
    mines companies
    monasteries mountains
    monuments sculptors
    moons planets
    murals buildings
    murals painters
    museums towns
    musicians orchestras
    neighborhoods towns
    novels authors
    nurses doctors
    nurses hospitals
    offices buildings
    offices companies
    operas composers
    orchards farms
    orders customers
    orders vendors
    ovens bakeries
    painters galleries
    paintings galleries
    paintings painters
    palaces kingdoms
    parades towns
    parcels couriers
    parcels warehouses
    parks suburbs
    passengers buses
    passengers flights
    passports citizens
    patients doctors
    patients hospitals
    payments accounts
    payments invoices
    payments orders
    permits mayors
    petitions ministers
    pharmacies hospitals
    photos cameras
    pilots companies
    pipelines refineries
    planets stars
    plants gardens
    plants greenhouses
    players teams
    playgrounds parks
    playgrounds schools
    playlists users
    poems poets
    policies customers
    policies insurers
    ponds gardens
    portraits artists
    postcards prisoners
    posters designers
    posters films
    prescriptions patients
    prescriptions pharmacies
    printers offices
    prisoners prisons
    products factories
    products suppliers
    professors universities
    programmers companies
    projects clients
    prototypes inventors
    puppets theaters
    pyramids deserts
    quizzes lessons
    radios cars
    receipts payments
    recipes chefs
    referees leagues
    refunds orders
    refunds payments
    rentals customers
    rentals vehicles
    reporters newspapers
    reptiles zoos
    researchers laboratories
    reservations guests
    reservations restaurants
    reservoirs dams
    residents apartments
    resorts beaches
    resorts islands
    restaurants hotels
    reviews critics
    reviews films
    reviews products
    rivers glaciers
    rivers mountains
    robots laboratories
    routers offices
    runners marathons
    sailors ships
    sandwiches cafes
    satellites planets
    satellites rockets
    scanners offices
    scholarships colleges
    scholarships students
    schools suburbs
    scooters users
    scouts clubs
    sculptures sculptors
    seeds plants
    sensors machines
    servers companies
    shepherds farms
    shipments containers
    shipments orders
    shipments warehouses
    ships fleets
    ships shipyards
    shoes stores
    shops landlords
    singers bands
    skaters coaches
    skiers coaches
    songs albums
    songs composers
    speeches ministers
    spices suppliers
    stables ranches
    stadiums clubs
    stations railways
    stores franchises
    students schools
    students universities
    subscribers magazines
    subscriptions journals
    subscriptions subscribers
    surgeons hospitals
    surgeries patients
    surgeries surgeons
    surveys researchers
    tailors workshops
    tasks employees
    tasks projects
    taverns breweries
    taxis drivers
    teachers schools
    teams leagues
    telescopes laboratories
    temples villages
    tenants apartments
    tenants landlords
    tents hikers
    therapists clinics
    tickets concerts
    tickets passengers
    tickets trains
    tigers zoos
    tires vehicles
    tools carpenters
    tools mechanics
    tourists hotels
    tourists tours
    tournaments leagues
    tournaments stadiums
    tours guides
    toys stores
    tractors farmers
    trainees companies
    trains railways
    trams routes
    translators agencies
    translators embassies
    treaties diplomats
    trees forests
    trees orchards
    tribes regions
    trophies teams
    trophies winners
    trucks drivers
    trucks warehouses
    tunnels highways
    tunnels mountains
    turbines dams
    tutors students
    uniforms soldiers
    users companies
    vaccines diseases
    vaccines laboratories
    vans florists
    vaults banks
    vehicles fleets
    vendors regions
    videos directors
    villages valleys
    villas beaches
    vineyards valleys
    volcanoes islands
    volunteers charities
    voters counties
    waiters restaurants
    wallets users
    warehouses companies
    waterfalls rivers
    weddings churches
    weddings venues
    wines vineyards
    winners tournaments
    witnesses courts
    workers factories
    workshops conferences
    wrestlers coaches
    yachts harbors
"""
"""A line per meaningful foreign key: `child parent`."""

SELF_RELATIONS = """
    workers manager
    employees supervisor
    nurses supervisor
    waiters supervisor
    folders parent
    companies parent
    regions parent
    users referrer
    customers referrer
    subscribers referrer
    branches headquarters
    dogs mother
    cows mother
    lions mother
    horses father
    tigers father
    birds mate
    tasks predecessor
    contracts predecessor
    policies predecessor
    treaties predecessor
    events predecessor
    editions predecessor
    projects successor
    messages original
    songs original
    documents original
    invoices original
    films prequel
    games prequel
    books sequel
    novels sequel
    teams rival
    clubs rival
    schools rival
    towns twin
    villages neighbor
    islands neighbor
    mountains neighbor
    doctors mentor
    surgeons mentor
    interns mentor
    lawyers partner
    dancers partner
    players substitute
    actors understudy
    astronauts standby
    servers replica
    routers uplink
    sensors replacement
    devices replacement
    machines replacement
    soldiers commander
    sailors commander
    agents handler
    kingdoms ally
    tribes ally
    professors advisor
    researchers advisor
    boxers opponent
    wrestlers opponent
    rivers outflow
    canals feeder
    residents spouse
    donors spouse
    detectives teammate
"""
"""A line per table whose rows refer to its own rows: `table role`, with the foreign key `role_id`."""

FULL_TABLE_GRIDS: tuple[Grid, ...] = (
    ("summer winter school city river", "trips clubs contests markets"),
    ("sales field night bank harbor", "staff teams shifts reports"),
)

FULL_HELD_OUT_RELATIONS = """
    summer_trips school_clubs
    city_trips school_clubs
    winter_contests school_clubs
    winter_contests city_markets
    river_contests school_clubs
    summer_markets school_clubs
    sales_staff night_teams
    sales_staff city_markets
    bank_staff night_teams
    sales_reports sales_staff
    sales_reports city_markets
    sales_reports summer_markets
    bank_reports bank_staff
    field_shifts sales_staff
    field_shifts night_teams
    harbor_shifts night_teams
    harbor_shifts bank_staff
"""
"""The same of held-out tables."""

FULL_HELD_OUT_SELF_RELATIONS = """
    school_clubs rival
    night_teams rival
    sales_staff manager
    bank_staff supervisor
    city_markets twin
    summer_trips predecessor
    winter_contests predecessor
    field_shifts predecessor
    harbor_shifts replacement
    sales_reports original
    bank_reports sequel
"""
"""The same of held-out tables."""

FULL_COLUMN_GRIDS: dict[ColumnType, tuple[Grid, ...]] = {
    "REAL": (("unit net gross base retail", "price cost fee tax"),),
    "INTEGER": (("seat room page shelf stock", "level size quota score"),),
    "TEXT": (("home work billing legal local", "name address city code"),),
    "DATE": (("order start due ship hire", "date day deadline"),),
}

DEMO_TABLES = """
    cars books songs films games shops teams parks ships farms banks clubs boats trees birds coins toys
    tools roads lakes rooms maps cups hats
"""

DEMO_COLUMNS: dict[ColumnType, str] = {
    "INTEGER": "age stock score level pages seats votes wins doors",
    "REAL": "price cost fee tax weight height width speed rating",
    "TEXT": "name title color brand city email phone code genre",
    "DATE": "opened closed founded sold hired birthday booked shipped deadline",
}

DEMO_TABLE_GRIDS: tuple[Grid, ...] = (
    ("city river school", "clubs shops parks"),
    ("bank farm film", "teams tools maps"),
)

DEMO_COLUMN_GRIDS: dict[ColumnType, tuple[Grid, ...]] = {
    "REAL": (("unit net base", "price cost fee"),),
    "INTEGER": (("seat room page", "level score stock"),),
    "TEXT": (("home work shop", "name city code"),),
    "DATE": (("order start due", "date day deadline"),),
}

DEMO_RELATIONS = """
    cars shops
    songs clubs
    books shops
    films clubs
    games teams
    trees parks
    tools shops
    rooms clubs
    boats lakes
    coins banks
    maps roads
    birds parks
    songs films
    games shops
    books clubs
    tools farms
    boats clubs
    trees roads
"""

DEMO_SELF_RELATIONS = """
    teams rival
    clubs partner
    roads detour
    songs sequel
"""

DEMO_HELD_OUT_RELATIONS = """
    school_shops river_parks
    school_shops city_clubs
    city_clubs river_parks
    bank_teams city_clubs
    bank_teams river_parks
    film_tools school_shops
    film_tools bank_teams
    farm_maps school_shops
    farm_maps city_clubs
"""

DEMO_HELD_OUT_SELF_RELATIONS = """
    bank_teams rival
    city_clubs partner
    school_shops rival
    farm_maps sequel
"""
