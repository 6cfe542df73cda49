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
    accountants | accountant | ledger keepers, bookkeeping experts
    accounts | account | banking profiles, financial profiles
    actors | actor | screen performers, cast performers
    agencies | agency | representation bureaus, service bureaus
    agents | agent | official representatives, talent representatives
    airports | airport | air terminals, aviation hubs
    alarms | alarm | warning sirens, alert signals
    albums | album | music releases, vinyl collections
    ambulances | ambulance | emergency transports, paramedic transports
    animals | animal | living creatures, wild beasts
    apartments | apartment | rented flats, residential flats
    appointments | appointment | calendar slots, consultation slots
    aquariums | aquarium | fish tanks, glass fishbowls
    archers | archer | bow shooters, arrow shooters
    architects | architect | blueprint drafters, structural planners
    articles | article | news stories, written features
    artists | artist | art makers, creative talents
    assets | asset | owned holdings, valued possessions
    astronauts | astronaut | space travelers, cosmos voyagers
    athletes | athlete | sports competitors, sporting talents
    auctions | auction | bidding sales, hammer sales
    auditors | auditor | compliance examiners, finance examiners
    authors | author | literary writers, fiction creators
    badges | badge | identity pins, lapel pins
    bakeries | bakery | bread counters, pastry counters
    bakers | baker | bread makers, pastry cooks
    bands | band | rock ensembles, pop ensembles
    banks | bank | lending institutions, savings institutions
    barns | barn | hay sheds, livestock sheds
    batteries | battery | electric cells, charge packs
    beaches | beach | sandy shores, seaside shores
    beekeepers | beekeeper | honey producers, apiary tenders
    bicycles | bicycle | pedal bikes, push bikes
    bids | bid | placed offers, competing offers
    birds | bird | feathered fliers, winged creatures
    blogs | blog | web diaries, online diaries
    boats | boat | paddle watercraft, rowing craft
    books | book | bound tomes, hardcover works
    bottles | bottle | glass flasks, corked vessels
    boxers | boxer | punching fighters, gloved fighters
    branches | branch | local outposts, regional outposts
    breweries | brewery | beer makers, ale producers
    bridges | bridge | crossing spans, viaduct structures
    brokers | broker | trade middlemen, deal intermediaries
    buildings | building | built structures, constructed premises
    buses | bus | double deckers, transit shuttles
    butchers | butcher | meat cutters, meat sellers
    buyers | buyer | purchasing parties, acquiring parties
    cabins | cabin | log huts, timber chalets
    cafes | cafe | coffee spots, espresso counters
    cameras | camera | imaging gadgets, picture takers
    campaigns | campaign | marketing drives, promotional pushes
    canals | canal | dug waterways, artificial waterways
    candidates | candidate | ballot hopefuls, ballot contenders
    canyons | canyon | deep gorges, rocky gorges
    caravans | caravan | camper trailers, towed campers
    carpenters | carpenter | wood joiners, timber craftsmen
    carpets | carpet | woven rugs, woolen rugs
    cars | car | family sedans, private automobiles
    castles | castle | medieval fortresses, stone strongholds
    caves | cave | rock caverns, underground caverns
    ceremonies | ceremony | formal rites, ritual observances
    chairs | chair | wooden stools, padded recliners
    charities | charity | giving foundations, nonprofit foundations
    cheeses | cheese | aged curds, dairy slices
    chefs | chef | head cooks, culinary experts
    churches | church | worship halls, christian sanctuaries
    cinemas | cinema | movie halls, multiplex screens
    citizens | citizen | naturalized nationals, native nationals
    claims | claim | insurance demands, coverage demands
    clients | client | engagement contacts, advised parties
    cliffs | cliff | sheer rockfaces, steep bluffs
    clinics | clinic | outpatient centers, walkin medical centers
    clowns | clown | circus jesters, funny jesters
    clubs | club | social societies, leisure associations
    coaches | coach | sports trainers, fitness instructors
    coins | coin | metal money, minted pieces
    colleges | college | undergraduate campuses, vocational institutes
    comedians | comedian | standup jokers, comic entertainers
    comets | comet | icy sky bodies, tailed sky objects
    companies | company | business firms, corporate entities
    complaints | complaint | filed grievances, lodged grievances
    components | component | assembly pieces, spare pieces
    composers | composer | symphony writers, melody writers
    computers | computer | desktop workstations, personal workstations
    concerts | concert | live music performances, stage gigs
    conferences | conference | industry summits, professional summits
    consultants | consultant | outside advisers, strategy advisers
    containers | container | freight crates, shipping crates
    contracts | contract | signed agreements, legal pacts
    counties | county | local jurisdictions, shire jurisdictions
    coupons | coupon | savings vouchers, promo vouchers
    couriers | courier | dispatch riders, errand riders
    courses | course | study programs, training curricula
    courts | court | law tribunals, justice tribunals
    cows | cow | dairy cattle, milking cattle
    cranes | crane | lifting hoists, construction hoists
    craters | crater | impact pits, lunar pits
    creditors | creditor | owed parties, unpaid financiers
    crews | crew | working squads, onboard personnel
    critics | critic | opinion columnists, arts commentators
    cruises | cruise | sea voyages, holiday voyages
    curators | curator | exhibition keepers, collection keepers
    customers | customer | paying patrons, regular patrons
    cyclists | cyclist | bike riders, pedal riders
    dams | dam | water barriers, concrete barriers
    dancers | dancer | ballet performers, dance performers
    dealers | dealer | resale traders, trade resellers
    dentists | dentist | teeth specialists, dental practitioners
    deserts | desert | arid lands, sand wastelands
    designers | designer | fashion creatives, layout creatives
    desks | desk | writing benches, study benches
    detectives | detective | crime investigators, private sleuths
    devices | device | electronic gadgets, handheld units
    diamonds | diamond | cut gems, sparkling gems
    diplomats | diplomat | foreign envoys, consular envoys
    directors | director | movie makers, screen filmmakers
    diseases | disease | medical ailments, chronic ailments
    divers | diver | scuba swimmers, snorkel swimmers
    docks | dock | mooring piers, loading piers
    doctors | doctor | family physicians, medical practitioners
    documents | document | paper files, written paperwork
    dogs | dog | canine hounds, barking hounds
    donations | donation | gifted sums, charitable gifts
    donors | donor | gift givers, generous benefactors
    dresses | dress | evening gowns, party gowns
    drivers | driver | professional motorists, private chauffeurs
    drones | drone | unmanned aircraft, flying quadcopters
    editions | edition | printed issues, reprint versions
    elections | election | ballot contests, public ballots
    elevators | elevator | vertical lifts, shaft lifts
    embassies | embassy | diplomatic missions, foreign consulates
    employees | employee | payroll staff, salaried staff
    employers | employer | hiring firms, recruiting firms
    engines | engine | combustion motors, drive motors
    episodes | episode | series installments, broadcast installments
    essays | essay | argued papers, opinion papers
    events | event | planned happenings, public occasions
    exams | exam | graded tests, academic assessments
    exhibits | exhibit | showcased artifacts, showcase pieces
    expeditions | expedition | polar treks, exploratory treks
    experiments | experiment | lab trials, scientific trials
    factories | factory | manufacturing sites, assembly sites
    farmers | farmer | crop growers, land tillers
    farms | farm | agricultural holdings, crop lands
    ferries | ferry | water shuttles, crossing vessels
    festivals | festival | cultural fairs, public celebrations
    films | film | motion pictures, feature movies
    firefighters | firefighter | blaze fighters, fire rescuers
    fleets | fleet | naval formations, vessel formations
    flights | flight | air journeys, plane hops
    florists | florist | bouquet sellers, bouquet arrangers
    flowers | flower | petal blooms, fragrant blossoms
    folders | folder | file binders, paper binders
    fonts | font | lettering faces, printed typefaces
    forests | forest | dense woods, woodland tracts
    forums | forum | discussion boards, debate boards
    fossils | fossil | petrified remains, prehistoric remains
    fountains | fountain | water jets, plaza jets
    franchises | franchise | branded chains, chain concessions
    fridges | fridge | cold cabinets, food coolers
    funds | fund | investment pools, pooled investments
    galleries | gallery | art exhibition halls, picture showrooms
    games | game | console adventures, playable amusements
    garages | garage | parking bays, repair bays
    gardens | garden | landscaped grounds, ornamental grounds
    gates | gate | boarding exits, entry barriers
    generators | generator | petrol dynamos, diesel dynamos
    glaciers | glacier | ice sheets, frozen masses
    greenhouses | greenhouse | glass hothouses, growing hothouses
    guards | guard | security watchmen, night watchmen
    guests | guest | invited visitors, staying visitors
    guides | guide | sightseeing escorts, trail escorts
    guitars | guitar | fretted instruments, stringed instruments
    gyms | gym | fitness centers, workout centers
    hangars | hangar | aircraft sheds, plane sheds
    harbors | harbor | sheltered anchorages, seaport basins
    helicopters | helicopter | rotor aircraft, hovering choppers
    helmets | helmet | protective headgear, safety headgear
    highways | highway | express motorways, interstate motorways
    hikers | hiker | trail walkers, backpack walkers
    hives | hive | bee colonies, honey nests
    horses | horse | riding steeds, racing steeds
    hospitals | hospital | medical infirmaries, inpatient wards
    hostels | hostel | youth lodgings, backpacker lodgings
    hotels | hotel | lodging establishments, overnight accommodations
    houses | house | family homes, detached dwellings
    incidents | incident | safety mishaps, reported mishaps
    inspections | inspection | quality checks, safety checks
    inspectors | inspector | quality checkers, site checkers
    insurers | insurer | insurance underwriters, coverage providers
    interns | intern | junior apprentices, unpaid apprentices
    interviews | interview | hiring conversations, recruitment talks
    inventions | invention | patented ideas, ingenious contraptions
    inventors | inventor | patent holders, idea originators
    investors | investor | capital backers, equity backers
    invoices | invoice | billing statements, payable bills
    islands | island | offshore isles, sea islets
    jackets | jacket | outdoor coats, padded coats
    jobs | job | career positions, employment openings
    journals | journal | scholarly periodicals, academic periodicals
    judges | judge | courtroom magistrates, bench magistrates
    keyboards | keyboard | typing pads, keystroke pads
    kingdoms | kingdom | royal realms, crown monarchies
    kiosks | kiosk | vending booths, snack booths
    kitchens | kitchen | cooking spaces, food prep spaces
    knights | knight | armored horsemen, medieval horsemen
    laboratories | laboratory | research facilities, testing facilities
    lakes | lake | inland waters, freshwater basins
    lamps | lamp | reading lights, bedside lights
    landlords | landlord | premises owners, letting owners
    laptops | laptop | folding notebooks, travel notebooks
    lawyers | lawyer | practicing attorneys, legal counsel
    leagues | league | competition tiers, sports federations
    leases | lease | tenancy agreements, occupancy agreements
    lecturers | lecturer | campus orators, seminar speakers
    lenses | lens | optical glass, focusing optics
    lessons | lesson | teaching sessions, taught classes
    libraries | library | reading halls, lending collections
    lighthouses | lighthouse | coastal beacons, warning beacons
    lions | lion | maned felines, savanna felines
    loans | loan | lent sums, credit advances
    machines | machine | mechanical apparatus, industrial equipment
    magazines | magazine | glossy periodicals, glossy publications
    magicians | magician | stage conjurers, trick performers
    marathons | marathon | endurance races, road footraces
    mayors | mayor | municipal heads, civic heads
    meals | meal | served dishes, cooked dinners
    mechanics | mechanic | repair technicians, auto technicians
    medals | medal | metal honors, ribbon decorations
    meetings | meeting | staff gatherings, boardroom gatherings
    members | member | dues payers, membership holders
    menus | menu | dish selections, food selections
    messages | message | chat texts, instant communications
    miners | miner | pit laborers, coal diggers
    mines | mine | ore pits, mineral excavations
    ministers | minister | cabinet politicians, government secretaries
    monasteries | monastery | monk retreats, cloistered abbeys
    monuments | monument | memorial structures, commemorative landmarks
    moons | moon | lunar bodies, planetary companions
    mountains | mountain | tall peaks, rocky peaks
    murals | mural | wall frescoes, painted walls
    museums | museum | heritage halls, historical institutions
    musicians | musician | instrument performers, gigging instrumentalists
    neighborhoods | neighborhood | urban quarters, residential blocks
    newspapers | newspaper | daily gazettes, printed dailies
    novels | novel | narrative fiction, prose fiction
    nurses | nurse | bedside caregivers, ward caregivers
    offices | office | work premises, business suites
    operas | opera | sung dramas, musical dramas
    orchards | orchard | fruit groves, fruit plantations
    orchestras | orchestra | symphonic ensembles, classical ensembles
    orders | order | purchase requests, buy slips
    ovens | oven | baking stoves, roasting stoves
    painters | painter | canvas creators, brush wielders
    paintings | painting | oil canvases, framed canvases
    palaces | palace | royal abodes, imperial abodes
    parades | parade | marching processions, float processions
    parcels | parcel | mailed packages, wrapped packages
    parks | park | public greens, recreation grounds
    passengers | passenger | boarding travelers, riding travelers
    passports | passport | travel booklets, border booklets
    patients | patient | treated people, medical cases
    payments | payment | money transfers, settled amounts
    permits | permit | official authorizations, granted authorizations
    petitions | petition | public appeals, protest appeals
    pharmacies | pharmacy | drug dispensaries, medicine dispensaries
    photos | photo | still pictures, snapshot images
    pilots | pilot | cockpit aviators, plane flyers
    pipelines | pipeline | oil conduits, gas conduits
    planets | planet | orbiting worlds, spinning worlds
    plants | plant | green vegetation, botanical specimens
    players | player | roster participants, playing personnel
    playgrounds | playground | swing areas, kids play areas
    playlists | playlist | curated mixes, music mixes
    podcasts | podcast | audio programs, talk programs
    poems | poem | verse pieces, lyrical verses
    poets | poet | verse writers, rhyme writers
    policies | policy | coverage plans, insurance plans
    ponds | pond | duck pools, shallow pools
    portraits | portrait | face likenesses, painted likenesses
    postcards | postcard | postal correspondence, handwritten notes
    posters | poster | wall prints, wall placards
    prescriptions | prescription | medication scripts, drug scripts
    printers | printer | printing equipment, laser inkjets
    prisoners | prisoner | jailed convicts, detained convicts
    prisons | prison | jail facilities, state penitentiaries
    products | product | sale goods, merchandise items
    professors | professor | tenured academics, faculty academics
    programmers | programmer | software developers, software engineers
    projects | project | planned undertakings, work initiatives
    prototypes | prototype | trial builds, test builds
    puppets | puppet | string marionettes, hand marionettes
    pyramids | pyramid | pharaoh tombs, ancient tombs
    quizzes | quiz | trivia challenges, pop tests
    radios | radio | broadcast receivers, tuner receivers
    railways | railway | rail networks, track networks
    ranches | ranch | cattle estates, livestock estates
    receipts | receipt | sale proofs, till proofs
    recipes | recipe | cooking instructions, dish formulas
    referees | referee | whistle officials, sports officials
    refineries | refinery | petroleum works, crude processors
    refunds | refund | money reimbursements, repaid sums
    regions | region | geographic territories, administrative territories
    rentals | rental | hire agreements, hire bookings
    reporters | reporter | press correspondents, news correspondents
    reptiles | reptile | scaly creatures, coldblooded creatures
    researchers | researcher | academic investigators, science investigators
    reservations | reservation | advance bookings, held bookings
    reservoirs | reservoir | municipal cisterns, storage cisterns
    residents | resident | local inhabitants, permanent inhabitants
    resorts | resort | vacation getaways, holiday retreats
    restaurants | restaurant | dining spots, sitdown eateries
    reviews | review | critical opinions, feedback opinions
    rivers | river | flowing waterways, freshwater streams
    robots | robot | automated helpers, mechanical androids
    rockets | rocket | launch boosters, orbital boosters
    routers | router | network switches, wireless relays
    routes | route | travel paths, planned paths
    runners | runner | foot racers, track sprinters
    sailors | sailor | seafaring hands, deck mariners
    sandwiches | sandwich | filled baguettes, toasted baguettes
    satellites | satellite | orbital spacecraft, communication spacecraft
    scanners | scanner | image digitizers, flatbed digitizers
    scholarships | scholarship | study stipends, academic stipends
    schools | school | learning institutions, primary academies
    scooters | scooter | kick mopeds, electric mopeds
    scouts | scout | talent spotters, prospect spotters
    sculptors | sculptor | stone carvers, marble carvers
    sculptures | sculpture | carved figures, marble figures
    seeds | seed | sowing grains, germinating kernels
    sensors | sensor | detection probes, measuring probes
    servers | server | network hosts, rack hosts
    shelters | shelter | refuge homes, rescue homes
    shepherds | shepherd | flock herders, sheep herders
    shipments | shipment | freight consignments, cargo consignments
    ships | ship | ocean vessels, seagoing vessels
    shipyards | shipyard | vessel builders, hull builders
    shoes | shoe | leather footwear, walking footwear
    shops | shop | retail boutiques, independent retailers
    singers | singer | vocal performers, lead vocalists
    skaters | skater | ice gliders, rink gliders
    skiers | skier | downhill racers, snow racers
    soldiers | soldier | army troops, infantry troops
    songs | song | music tracks, recorded tunes
    speeches | speech | public orations, formal orations
    spices | spice | seasoning powders, culinary seasonings
    stables | stable | equine quarters, steed quarters
    stadiums | stadium | sporting grounds, spectator arenas
    stars | star | distant suns, celestial lights
    stations | station | transit halts, boarding platforms
    stores | store | retail outlets, shopping marts
    students | student | classroom pupils, campus learners
    studios | studio | recording spaces, creative spaces
    subscribers | subscriber | newsletter readers, recurring payers
    subscriptions | subscription | recurring memberships, monthly memberships
    suburbs | suburb | commuter outskirts, residential outskirts
    suppliers | supplier | wholesale providers, sourcing providers
    surgeons | surgeon | operating physicians, scalpel specialists
    surgeries | surgery | medical operations, scalpel operations
    surveys | survey | opinion polls, questionnaire studies
    tailors | tailor | suit makers, garment sewers
    tasks | task | assigned duties, todo duties
    taverns | tavern | drinking inns, roadside inns
    taxis | taxi | metered cabs, yellow cabs
    teachers | teacher | classroom educators, schoolroom instructors
    teams | team | competing sides, playing squads
    telescopes | telescope | stargazing scopes, sky scopes
    temples | temple | sacred shrines, holy shrines
    tenants | tenant | flat occupants, paying lodgers
    tents | tent | camping canopies, canvas canopies
    theaters | theater | drama halls, stage playhouses
    therapists | therapist | talking counselors, wellness counselors
    tickets | ticket | admission passes, entry passes
    tigers | tiger | striped cats, jungle cats
    tires | tire | rubber treads, spare treads
    tools | tool | repair implements, hardware implements
    tourists | tourist | sightseeing visitors, vacation travelers
    tournaments | tournament | knockout competitions, bracket competitions
    tours | tour | guided excursions, sightseeing excursions
    towers | tower | tall turrets, stone spires
    towns | town | market municipalities, municipal settlements
    toys | toy | play things, kids playthings
    tractors | tractor | plowing rigs, tilling rigs
    trainees | trainee | novice recruits, fresh recruits
    trains | train | rail services, locomotive services
    trams | tram | electric streetcars, urban streetcars
    translators | translator | bilingual interpreters, text interpreters
    treaties | treaty | peace accords, international accords
    trees | tree | leafy hardwoods, woody trunks
    tribes | tribe | indigenous clans, native clans
    trophies | trophy | victory cups, winning cups
    trucks | truck | freight lorries, heavy haulers
    tunnels | tunnel | underground passages, bored passages
    turbines | turbine | wind rotors, spinning rotors
    tutors | tutor | homework helpers, personal educators
    uniforms | uniform | duty outfits, standard outfits
    universities | university | doctoral campuses, graduate institutes
    users | user | login identities, registered logins
    vaccines | vaccine | immunization shots, preventive shots
    valleys | valley | lowland hollows, glacial hollows
    vans | van | cargo minivans, panel minivans
    vaults | vault | safe chambers, secure chambers
    vehicles | vehicle | motorized transports, wheeled transports
    vendors | vendor | goods sellers, selling merchants
    venues | venue | hosting spaces, gathering spaces
    videos | video | recorded clips, streaming clips
    villages | village | rural hamlets, farming hamlets
    villas | villa | seaside manors, mediterranean manors
    vineyards | vineyard | grape estates, grape terraces
    volcanoes | volcano | lava vents, erupting vents
    volunteers | volunteer | unpaid helpers, willing helpers
    voters | voter | registered electors, eligible electors
    waiters | waiter | dining attendants, tableside attendants
    wallets | wallet | pocket purses, leather billfolds
    warehouses | warehouse | storage depots, storage facilities
    waterfalls | waterfall | plunging cascades, water cascades
    weddings | wedding | marriage celebrations, bridal celebrations
    wines | wine | red vintages, fine vintages
    winners | winner | victorious entrants, contest victors
    witnesses | witness | sworn observers, trial observers
    workers | worker | manual laborers, unskilled laborers
    workshops | workshop | crafting sessions, practical sessions
    wrestlers | wrestler | mat grapplers, ring grapplers
    yachts | yacht | luxury cruisers, pleasure cruisers
    zoos | zoo | wildlife enclosures, exotic menageries
"""
"""A line per table: `plural | singular | synonym, synonym`; the singular names a foreign key, `order_id`."""

FULL_COLUMNS: dict[ColumnType, str] = {
    "INTEGER": """
        age | years lived, years alive
        quantity | item amount, units involved
        stock | inventory level, shelf supply
        score | final mark, test mark
        points | earned credits, loyalty credits
        pages | sheet tally, leaf tally
        seats | seating places, sitting places
        rooms | indoor chambers, chamber tally
        floors | stacked storeys, storey tally
        votes | ballots cast, ballots won
        wins | victory tally, victories achieved
        losses | defeat tally, defeats suffered
        goals | netted shots, scoring strikes
        laps | circuit rounds, track circuits
        stops | halts made, halting places
        steps | paces walked, stride tally
        doors | entrance tally, doorway tally
        wheels | rolling rims, rim tally
        copies | clones made, publishing run
        visits | visitor tally, stopovers made
        clicks | mouse presses, link taps
        downloads | file saves, file pulls
        calls | dialed conversations, ring tally
        hits | impacts landed, blows landed
        errors | mistake tally, fault tally
        pixels | screen dots, image dots
        grams | gram tally, metric mass
        calories | dietary kcal, kcal tally
        mileage | odometer reading, miles driven
        population | inhabitant tally, people living locally
        capacity | holding ability, crowd ceiling
        attendance | people present, crowd turnout
        children | kids raised, offspring tally
        pets | furry companions, tame companions
        shelves | rack tally, rack levels
        boxes | carton tally, packed cartons
        pallets | skid tally, loading skids
        tiles | ceramic squares, paving squares
        nodes | network vertices, graph vertices
        chapters | story sections, narrative sections
        awards | honors received, accolades earned
        followers | fan tally, loyal fans
        bedrooms | sleeping chambers, sleeping quarters
        bathrooms | washing chambers, shower chambers
        windows | glass panes, pane tally
        lanes | traffic strips, parallel strips
        assists | helping passes, scoring passes
        fouls | rule breaches, infringement tally
        tackles | defensive challenges, challenge tally
        penalties | spot kicks, punishment tally
        gears | gearbox ratios, shifting ratios
        cylinders | piston chambers, piston tally
        horsepower | motor strength, motor muscle
        megabytes | digital size, file size
        decibels | loudness level, noise level
        beds | mattress tally, cot tally
        stitches | sewn loops, suture tally
        questions | asked inquiries, inquiry tally
        answers | response tally, written responses
        attempts | tries made, effort tally
        warnings | caution notices, alert notices
        absences | missed days, days absent
        duration | elapsed time, time span
        lifespan | life expectancy, life length
        semesters | study terms, academic terms
        legs | walking limbs, limb tally
        eggs | laid ova, clutch tally
        batches | production lots, lot tally
        barrels | oil casks, cask tally
        bags | luggage pieces, sack tally
        buttons | press studs, fastening studs
        pockets | sewn pouches, pouch tally
        ingredients | mixture items, blended items
        servings | plated portions, portion tally
        layers | stacked strata, strata tally
        arrests | police captures, custody tally
        shares | equity stakes, stake tally
        comments | posted remarks, remark tally
        plays | playback tally, listening tally
    """,
    "REAL": """
        price | asking amount, tag figure
        cost | incurred outlay, expense incurred
        fee | service charge, handling charge
        tax | government levy, duty charged
        discount | markdown amount, reduction offered
        salary | yearly pay, annual pay
        wage | hourly pay, hourly earnings
        weight | measured heaviness, overall heft
        height | vertical extent, overall tallness
        width | sideways extent, overall breadth
        depth | inward extent, deepness measured
        speed | moving velocity, travel pace
        rating | quality grade, approval grade
        profit | earnings surplus, financial gain
        revenue | sales turnover, money taken
        margin | markup share, spread earned
        budget | spending allowance, planned spending
        balance | money remaining, leftover money
        debt | money owed, owed amount
        bonus | extra pay, reward pay
        rent | lodging charge, tenancy charge
        area | surface extent, square footage
        volume | cubic size, cubic space
        radius | half diameter, circle reach
        altitude | elevation reading, flying elevation
        latitude | north coordinate, parallel position
        longitude | east coordinate, meridian position
        temperature | heat level, thermometer reading
        humidity | air moisture, moisture level
        pressure | barometer reading, compression force
        voltage | electric potential, volts measured
        power | wattage output, watts produced
        energy | stored joules, joules consumed
        density | compactness level, mass concentration
        distance | gap length, journey length
        dose | medicine amount, prescribed amount
        income | household earnings, personal earnings
        premium | insurance charge, coverage charge
        deposit | upfront money, security money
        dividend | shareholder payout, equity payout
        thickness | slab gauge, layer gauge
        torque | twisting force, rotational force
        brightness | luminance level, light intensity
        fare | travel charge, transit charge
        tuition | schooling charge, teaching charge
        royalty | creator payout, licensing payout
        commission | seller cut, sales cut
        subsidy | state support, public support
        pension | retirement pay, retiree pay
        interest | borrowing rate, lending rate
        tip | gratuity offered, waitstaff gratuity
        toll | road charge, crossing charge
        postage | mailing charge, stamp charge
        overhead | fixed spending, indirect spending
        surcharge | extra charge, added charge
        valuation | appraised worth, estimated worth
        yield | crop output, harvest output
        rainfall | precipitation level, rain amount
        snowfall | snow amount, snow accumulation
        visibility | sight reach, viewing reach
        acidity | acid level, sourness level
        salinity | salt level, saltiness level
        hardness | scratch resistance, toughness level
        elasticity | stretch factor, springiness level
        viscosity | fluid stickiness, flow resistance
        porosity | pore fraction, sponginess level
        purity | refinement level, fineness level
        turbidity | cloudiness level, murkiness level
        frequency | hertz reading, wave repetition
        wavelength | wave span, crest spacing
        amplitude | wave swing, oscillation strength
        impedance | ohm reading, circuit opposition
        conductivity | conducting ability, charge flow ability
        capacitance | farad reading, charge storage
        acceleration | pace gain, quickening rate
        momentum | moving impulse, motion impulse
        friction | rubbing drag, surface drag
        efficiency | output ratio, performance ratio
        accuracy | correctness level, precision level
        latency | response lag, network lag
        bandwidth | transfer rate, throughput rate
        uptime | service availability, online share
        probability | likelihood figure, chance figure
        angle | corner bend, corner opening
        slope | incline steepness, gradient steepness
        circumference | circle girth, encircling length
        perimeter | boundary length, edge length
        wingspan | wing breadth, wingtip reach
        protein | amino content, muscle nutrient
        sugar | sweetener content, glucose content
        fiber | roughage content, bran content
        fat | lipid content, grease content
        pulse | heart rate, beating rate
        tonnage | cargo heaviness, haul mass
        mortality | death rate, fatality rate
        fertility | birth rate, breeding rate
        unemployment | jobless rate, idle workforce
        literacy | reading rate, literate share
        handicap | golf adjustment, scoring adjustment
        odds | betting ratio, wager ratio
        magnitude | quake strength, seismic strength
    """,
    "TEXT": """
        glaze | surface coating, surface polish
        name | official appellation, proper designation
        script | written glyphs, lettering system
        title | heading text, headline text
        color | visible hue, shade tone
        brand | maker label, trademark label
        genre | artistic kind, creative kind
        category | item class, classification label
        country | home nation, sovereign nation
        city | urban locality, home metropolis
        street | road location, avenue location
        address | mailing location, postal location
        email | electronic mailbox, inbox contact
        phone | dial digits, telephone digits
        nickname | informal moniker, playful moniker
        language | spoken tongue, native tongue
        editor | manuscript reviser, text reviser
        publisher | publishing imprint, printing imprint
        code | reference cipher, lookup cipher
        model | make variant, design variant
        material | substance used, raw substance
        shape | outline form, geometric form
        flavor | taste profile, tongue taste
        style | stylistic manner, design manner
        theme | central subject, underlying subject
        mood | emotional tone, feeling evoked
        motto | guiding slogan, rallying slogan
        district | administrative borough, local borough
        province | federal state, administrative state
        continent | world landmass, major landmass
        species | biological kind, taxonomic kind
        breed | pedigree lineage, pedigree bloodline
        habitat | natural surroundings, living environment
        diet | eating regimen, feeding regimen
        gender | stated sex, biological sex
        occupation | career trade, professional calling
        department | work unit, organizational unit
        division | corporate segment, business segment
        degree | academic qualification, earned diploma
        sponsor | financial backer, funding backer
        captain | squad skipper, chosen skipper
        nationality | citizenship held, citizenship claimed
        currency | money unit, legal tender
        warranty | guarantee terms, repair guarantee
        fabric | cloth used, textile used
        texture | surface feel, tactile feel
        scent | smell note, aroma note
        season | seasonal phase, annual phase
        weather | sky conditions, outdoor conditions
        terrain | ground relief, land relief
        climate | climatic belt, climatic zone
        severity | seriousness level, gravity level
        symbol | emblem used, iconic emblem
        barcode | scan stripes, scannable stripes
        website | web presence, internet homepage
        surname | family appellation, inherited appellation
        hometown | childhood locality, birth locality
        signature | pen autograph, handwritten autograph
        status | current state, progress stage
        priority | importance level, precedence level
        description | explanatory wording, descriptive wording
        summary | brief overview, condensed digest
        caption | picture blurb, image blurb
        username | login handle, screen handle
        password | login secret, access secret
        hashtag | social tag, trending tag
        hobby | leisure pastime, favorite pastime
        religion | faith practiced, worship faith
        ethnicity | ethnic background, ethnic heritage
        dialect | regional accent, local accent
        specialty | expertise focus, professional focus
        skill | trained ability, practiced ability
        zipcode | zip digits, postal digits
        timezone | clock zone, hour zone
        soil | earth kind, dirt kind
        cuisine | cooking tradition, culinary tradition
        allergen | allergy trigger, reaction trigger
        topping | garnish used, sprinkled garnish
        pattern | printed motif, decorative motif
        logo | corporate insignia, graphic insignia
        mascot | costumed character, lucky character
        tempo | musical pace, beat pace
        lyrics | sung words, vocal words
        narrator | story teller, voice teller
        protagonist | main hero, story hero
        villain | main antagonist, story antagonist
        plot | story arc, narrative arc
        diagnosis | identified ailment, medical finding
        symptom | illness sign, bodily sign
        treatment | therapy given, healing therapy
        manufacturer | producing firm, fabricating firm
        protocol | communication standard, handshake standard
        encoding | character scheme, text scheme
        firmware | embedded software, chip software
        hostname | network label, host label
        domain | internet realm, web realm
        browser | web viewer, internet viewer
        license | usage terms, usage rights
        orientation | compass facing, alignment bearing
        clearance | security grade, access grade
        payee | money recipient, cheque recipient
        sender | mail originator, mail dispatcher
        carrier | hauling firm, transport firm
        suspect | accused person, alleged culprit
        motive | driving reason, underlying reason
        verdict | jury ruling, trial ruling
        weapon | combat arm, fighting arm
        guardian | legal custodian, child custodian
        heir | estate inheritor, rightful inheritor
        temperament | typical disposition, inborn disposition
        zodiac | birth sign, astrological sign
        hairstyle | haircut worn, hair arrangement
        handedness | dominant hand, preferred hand
        tactic | playing strategy, winning strategy
    """,
    "DATE": """
        birthday | birth date, birth day
        anniversary | yearly commemoration, commemoration date
        opened | opening date, opening day
        closed | closing date, closing day
        founded | founding date, establishment date
        released | release date, release day
        delivered | dropoff date, handover date
        published | publication date, publication day
        graduated | graduation date, graduation day
        married | marriage date, marriage day
        retired | retirement date, retirement day
        launched | launch date, launch day
        arrival | arriving date, landing date
        departure | leaving date, takeoff date
        checkout | lodging exit date, guestroom exit date
        renewal | renewing date, extension date
        expiry | lapse date, expiration date
        enrolled | enrollment date, signup date
        installed | installation date, setup date
        inspected | checking date, examination date
        repaired | mending date, fixing date
        booked | booking date, booking day
        sold | sale date, selling date
        purchased | buying date, buying day
        harvested | harvest date, reaping date
        planted | planting date, sowing date
        created | creation date, creation day
        updated | modification date, revision date
        deleted | deletion date, erasure date
        cancelled | cancellation date, cancellation day
        submitted | submission date, submission day
        resolved | resolution date, solving date
        adopted | adoption date, adoption day
        died | death date, death day
        baptized | baptism date, christening date
        divorced | separation date, divorce date
        elected | polling date, ballot day
        promoted | promotion date, advancement date
        dismissed | firing date, dismissal date
        resigned | resignation date, quitting date
        vaccinated | vaccination date, jab date
        admitted | admission date, intake date
        discharged | discharge date, discharge day
        manufactured | production date, manufacturing date
        assembled | assembly date, assembly day
        composed | composition date, songwriting date
        premiered | premiere date, debut date
        filmed | shooting date, filming date
        discovered | discovery date, discovery day
        excavated | digging date, excavation date
        restored | restoration date, restoration day
        demolished | demolition date, teardown date
        ratified | ratification date, ratification day
        audited | audit date, audit day
        serviced | servicing date, maintenance date
        calibrated | calibration date, calibration day
        borrowed | borrowing date, borrowing day
        donated | giving date, gift date
        invoiced | billing date, billing day
        translated | translation date, translation day
        imported | import date, import day
        exported | export date, export day
        arrested | arrest date, arrest day
        convicted | conviction date, sentencing date
        paroled | parole date, parole day
        hatched | hatching date, hatching day
        tested | testing date, testing day
    """,
    "BOOLEAN": """
        active | operating flag, live flag
        verified | authenticity flag, confirmation flag
        approved | approval flag, consent flag
        archived | archive flag, shelved flag
        enabled | feature switch, enabling switch
        featured | spotlight flag, showcase flag
        paid | settlement flag, settled flag
        urgent | rush flag, urgency flag
        insured | insurance flag, coverage flag
        certified | certification flag, accreditation flag
        fragile | breakable flag, delicate flag
        waterproof | watertight flag, water resistance flag
        portable | portability flag, carryable flag
        organic | pesticide free flag, chemical free flag
        recyclable | recycling flag, reuse flag
        flammable | fire hazard flag, fire risk flag
        refundable | moneyback flag, returnable flag
        taxable | levy flag, dutiable flag
        locked | lock flag, padlock flag
        hidden | hiding flag, concealment flag
        damaged | damage flag, breakage flag
        vegan | meatless flag, dairyless flag
        furnished | furniture flag, furnishing flag
        heated | heating flag, radiator flag
        haunted | ghost flag, spook flag
        endangered | extinction flag, endangerment flag
        edible | eatable flag, food safe flag
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
