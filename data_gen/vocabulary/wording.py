"""Clause -> the patterns in which English may say it.

One pattern per line. A word in braces is a slot and stands as a whole word. `number: `, `text: `, `date: ` or
several of these with commas before a pattern name the kinds of column that it suits; without that, any kind.
Brackets mark the words that carry the direction of a sort. `NAT_` is how a person asks; the rest is explicit.
"""

from __future__ import annotations

from data_gen.query import SetOperator, WindowFunction

TEMPLATES: str = """
    show the {columns} of {table}
    show me the {columns} from the {table} table
    list {columns} from {table}
    list the {columns} of all {table}
    get the {columns} of all {table}
    give me the {columns} of {table}
    give the {columns} found in {table}
    find {columns} in {table}
    find the {columns} of the {table}
    return the {columns} of {table}
    return {columns} from the {table} table
    display the {columns} of all {table}
    display {columns} from {table}
    retrieve the {columns} stored in {table}
    retrieve {columns} from the {table} table
    fetch the {columns} of {table}
    fetch {columns} out of the {table} table
    select the {columns} of {table}
    print the {columns} of {table}
    look up the {columns} in the {table} table
    pull {columns} out of {table}
    report the {columns} of {table}
    read the {columns} from the {table} table
    extract {columns} from {table}
    write out the {columns} of {table}
    collect the {columns} of all {table}
    produce the {columns} of {table}
    from {table} give me {columns}
    from {table} get the {columns}
    from the {table} table, return {columns}
    out of {table} take the {columns}
    in {table} find the {columns}
    for all {table}, list the {columns}
    of all {table}, show the {columns}
    using the {table} table, show {columns}
    with the {table} table, list {columns}
    reading from {table}, show the {columns}
    show the {columns}
    show just the {columns}
    list the {columns}
    list only the {columns}
    get the {columns}
    give me just the {columns}
    find the {columns}
    return {columns}
    return only the {columns}
    display the {columns}
    display only {columns}
    retrieve the {columns}
    fetch {columns}
    select the {columns}
    print the {columns}
    output the {columns}
    look up the {columns}
    pull the {columns}
    report the {columns}
    read out the {columns}
    extract the {columns}
    write out {columns}
    i need the {columns}
    tell me the {columns}
"""
"""SELECT and FROM; every other clause follows. Slots: `{columns}`, and in three of five `{table}`."""

NAT_TEMPLATES: str = """
    may i ask for the {columns} of our {table}
    could you pull up the {columns} for the {table}
    i was wondering about the {columns} of the {table}
    can you show me the {columns} for our {table}
    would you mind getting me the {columns} of the {table}
    i would like to see the {columns} of our {table}
    i want to know the {columns} of all our {table}
    do you happen to know the {columns} of the {table}
    any chance you could dig up the {columns} for our {table}
    let me see the {columns} we have for the {table}
    could i have a look at the {columns} of our {table}
    i am curious about the {columns} of these {table}
    help me find the {columns} of the {table}
    i am trying to find the {columns} of our {table}
    what do we know about the {columns} of the {table}
    what can you tell me about the {columns} of our {table}
    which {columns} do we have on file for the {table}
    would it be possible to see the {columns} of all the {table}
    i need to check the {columns} of our {table}
    we need the {columns} of the {table}
    please send me the {columns} for our {table}
    hey, could i get the {columns} for the {table}
    so what would be the {columns} of those {table}
    quick question, what would be the {columns} of the {table}
    my boss wants the {columns} of our {table}
    someone asked me for the {columns} of the {table}
    i am writing a report and need the {columns} of all our {table}
    could you put together the {columns} of the {table}
    how about a list with the {columns} of our {table}
    i have to look at the {columns} of all the {table}
    can you read me the {columns} of our {table}
    is there a way to see the {columns} of the {table}
    could you check the {columns} for these {table}
    remind me of the {columns} of our {table}
    i forgot the {columns} of the {table}
    do we have the {columns} of those {table}
    please find out the {columns} of all the {table}
    may i see the {columns} of our {table}
    it would help to have the {columns} of our {table}
    looking at our {table}, what would be the {columns}
    for our {table} i would like the {columns}
    from the {table} i only need the {columns}
    when it comes to the {table}, could you show me the {columns}
    about our {table}, i would love to know the {columns}
    of all the {table} we have, show me the {columns}
    as for the {table}, can you tell me the {columns}
"""
"""The same as a person says it. Slots: `{columns}` and `{table}`."""

SORT_OPENERS: str = """
    sorted by
    ordered by
    arranged by
    sequenced by
    put in order by
    and sort them by
    and order the result by
    with the rows sorted by
    and arrange the rows by
"""
"""What introduces the first sort key: a column and its sort phrase. No slot."""

NAT_SORT_OPENERS: str = """
    and put them in order of
    and line them up by
    and i would like them sorted by
    and go through them by
    and could you sort that by
    and please order them by
"""
"""The same as a person says it."""

SORT_PHRASES: str = """
    in [ascending] order | in [descending] order
    [ascending] | [descending]
    in the [ascending] direction | in the [descending] direction
    in [ascending] sequence | in [descending] sequence
    with its values [ascending] | with its values [descending]
    with values in [ascending] order | with values in [descending] order
    number: going [up] | going [down]
    number: [upward] | [downward]
    number: in [increasing] order | in [decreasing] order
    number: [increasing] | [decreasing]
    number: in [rising] order | in [falling] order
    number: [lowest] first | [highest] first
    number: starting with the [lowest] | starting with the [highest]
    number: with the [lowest] on top | with the [highest] on top
    number: with the [lowest] value leading | with the [highest] value leading
    number: with [low] values first | with [high] values first
    number: with [small] numbers before the others | with [large] numbers before the others
    number: [from lowest to highest] | [from highest to lowest]
    number: [from low to high] | [from high to low]
    number: [low to high] | [high to low]
    number: [from small to large] | [from large to small]
    text: in [alphabetical] order | in [reverse alphabetical] order
    text: in [forward] alphabetical order | in [backward] alphabetical order
    text: in [dictionary] order | in [reverse dictionary] order
    text: [from A to Z] | [from Z to A]
    text: [A to Z] | [Z to A]
    text: starting at [A] | starting at [Z]
    text: with [A] on top | with [Z] on top
    text: with [A] before the other letters | with [Z] before the other letters
    text: [A] first | [Z] first
    text: running [forward] through the alphabet | running [backward] through the alphabet
    text: along the alphabet [forwards] | along the alphabet [backwards]
    date: in [chronological] order | in [reverse chronological] order
    date: in [forward] chronological order | in [backward] chronological order
    date: [oldest] first | [newest] first
    date: starting with the [oldest] | starting with the [newest]
    date: with the [oldest] on top | with the [newest] on top
    date: [least] recent first | [most] recent first
    date: with the [least] recent on top | with the [most] recent on top
    date: going [forward] in time | going [backward] in time
    date: [from oldest to newest] | [from newest to oldest]
    date: [oldest to newest] | [newest to oldest]
    date: [from old to new] | [from new to old]
"""
"""Both directions of a sort key, ascending `|` descending, said right after its column. No slot."""

AGGREGATES: dict[str, str] = {
    "SUM": """
        total {column}
        total {column} value
        total of all {column} values
        total of the {column} values
        total over the {column} column
        total amount of the {column} column
        sum of all {column} values
        sum of the {column} values
        sum of the {column} column
        sum over the {column} column
        sum total of the {column} values
        summed {column} values
        combined {column} values
        combined total of the {column} values
        {column} total
        {column} sum
        {column} in total
        {column} summed together
        {column} added together
        result of adding all {column} values together
    """,
    "AVG": """
        average {column}
        average {column} value
        average of all {column} values
        average of the {column} values
        average of the {column} column
        average taken over all {column} values
        averaged {column} values
        mean {column}
        mean {column} value
        mean of all {column} values
        mean of the {column} values
        mean of the {column} column
        mean taken over all {column} values
        arithmetic mean {column}
        arithmetic mean of all {column} values
        arithmetic mean of the {column} column
        arithmetic average of the {column} values
        {column} average
        {column} mean
        {column} on average
    """,
    "MIN": """
        minimum {column}
        minimum {column} value
        minimum of the {column} values
        minimum of the {column} column
        number: {column} minimum
        number: minimal {column}
        number: smallest {column}
        number: smallest of the {column} values
        number: tiniest {column}
        number: {column} at its smallest
        date: earliest {column}
        date: very earliest {column}
        date: earliest of all {column} values
        date: {column} that is earliest
        date: chronologically first {column}
        date: {column} that came first in time
        text: alphabetically first {column}
        text: first {column} in the alphabet
        text: first {column} by the alphabet
        text: {column} that is alphabetically first
        text: {column} that comes first in the alphabet
    """,
    "MAX": """
        maximum {column}
        maximum {column} value
        maximum of the {column} values
        maximum of the {column} column
        number: {column} maximum
        number: largest {column}
        number: largest of the {column} values
        number: biggest {column}
        number: {column} at its largest
        date: latest {column}
        date: very latest {column}
        date: latest of all {column} values
        date: chronologically last {column}
        date: {column} that came last in time
        text: alphabetically last {column}
        text: last {column} in the alphabet
        text: {column} that is alphabetically last
        text: {column} that comes last in the alphabet
    """,
    "COUNT": """
        number of rows with {column} data
        number of rows with some {column} data
        number of rows with any {column} data
        number of rows with {column} on record
        number of rows that have {column} data
        number of rows that have any {column} data
        number of rows not missing {column} data
        number of records with {column} data
        number of records with some {column} data
        number of records with any {column} data
        count of rows with {column} data
        count of rows with some {column} data
        count of rows with {column} on record
        count of rows not missing {column} data
        count of records with {column} data
        tally of rows with {column} data
        tally of rows with {column} on record
    """,
}
"""Said after `the` and in lists; SUM and AVG suit numbers only. Slot: `{column}`.

In a list "minimum of price, city" would be the minimum of both, so no preposition stands right before the
column. COUNT counts rows: "number of values" could be the number of different ones. It ends with a noun, behind
which any clause may follow.
"""

COUNT_ROWS: str = """
    number of rows
    number of records
    row count
    record count
    count of rows
    count of records
"""
"""COUNT(*), said where an aggregate is said. No slot."""

GROUP_BY: str = """
    for each {columns}
    for every {columns}
    per {columns}
    grouped by {columns}
    in groups by {columns}
    with one group per {columns}
    broken down by {columns}
    split up by {columns}
"""
"""Slot: `{columns}`, which the groups have in common."""

NAT_GROUP_BY: str = """
    and do that for each {columns}
    and i want it separately for every {columns}
    and could you break that down by {columns}
    and give me one line per {columns}
"""
"""The same as a person says it."""

JOIN: str = """
    joined with {table} on {left} equals {right}
    joined to {table} on {left} equal to {right}
    inner joined with {table} on {left} equals {right}
    joined with {table} by matching {left} to {right}
    combined with {table} on {left} equals {right}
    linked with {table} through {left} equal to {right}
    matched to {table} by equal {left} and {right}
    paired with {table} on {left} equals {right}
    connected to {table} through {left} equals {right}
    connected with {table} by matching {left} to {right}
"""
"""Slots: `{table}`, and `{left}` and `{right}`, the columns of the main and of the joined table."""

NAT_JOIN: str = """
    matched up with the {table} through {left} and {right}
    tied to the {table} by {left} being the same as {right}
    put next to the {table} that fit by {left} and {right}
    along with the {table} that match by {left} and {right}
    hooked onto the {table} with {left} the same as {right}
    brought together with their {table} through {left} and {right}
"""
"""The same as a person says it."""

LEFT_JOIN: str = """
    left joined with {table} on {left} equals {right}
    left outer joined with {table} on {left} equals {right}
    keeping rows without a match in {table}, linked on {left} equals {right}
    joined, even without a match, with {table} on {left} equals {right}
    joined, keeping unmatched rows, to {table} on {left} equals {right}
    with {table} joined if there is a match of {left} to {right} and unmatched rows kept
"""
"""Slots as in `JOIN`; rows of the main table stay where the joined table has no match."""

NAT_LEFT_JOIN: str = """
    along with any matching {table}, but nothing dropped if none match, by {left} and {right}
    next to their {table}, and still shown if they have none, by {left} and {right}
    tied to the {table}, without losing the ones that have no match, by {left} and {right}
    with the matching {table} if any, the unmatched ones staying in, going by {left} and {right}
"""
"""The same as a person says it."""

WHERE_OPENERS: str = """
    where
    for which
    in which
    such that
    only where
    provided that
"""
"""What introduces the first condition: `<column> <operator phrase>` or `EXISTS`. No slot."""

NAT_WHERE_OPENERS: str = """
    whose
    but just the ones whose
    as long as
    but just the ones where
    and i only mean those where
"""
"""The same as a person says it; after `whose`, a column and its operator phrase must follow."""

INNER_WHERE_OPENERS: str = """
    where
    whose
    for which
    in which
"""
"""The same behind the table of a subquery, a CTE or a set operation, of which alone these words can speak."""

AND: str = """
    and
    and also
"""
"""Said between two conditions that must both hold. No slot."""

OR: str = """
    or
    or else
"""
"""Said between two conditions of which one is enough. No slot."""

EITHER: str = """
    either
    at least one of the following holds,
"""
"""Said before the first of the conditions that `OR` connects, not after `whose`. No slot."""

OPERATORS: dict[str, str] = {
    "=": """
        is {value}
        is equal to {value}
        equals {value}
        is exactly {value}
        is the same as {value}
        number: amounts to {value}
        number: comes to {value}
        date: falls on {value}
        text: reads {value}
        text: is spelled {value}
        boolean: is marked as {value}
        boolean: is set to {value}
    """,
    "<>": """
        is not {value}
        is not equal to {value}
        does not equal {value}
        differs from {value}
        is other than {value}
        is anything but {value}
        number: does not amount to {value}
        date: does not fall on {value}
        text: does not read {value}
    """,
    ">": """
        number: is greater than {value}
        number: is more than {value}
        number: is above {value}
        number: is over {value}
        number: is higher than {value}
        number: is larger than {value}
        number: exceeds {value}
        date: is after {value}
        date: comes after {value}
        date: falls after {value}
        date: lies after {value}
        date: is later than {value}
    """,
    "<": """
        number: is less than {value}
        number: is below {value}
        number: is under {value}
        number: is lower than {value}
        number: is smaller than {value}
        number: falls short of {value}
        date: is before {value}
        date: comes before {value}
        date: falls before {value}
        date: lies before {value}
        date: is earlier than {value}
    """,
    ">=": """
        number: is at least {value}
        number: is no less than {value}
        number: is not below {value}
        number: is {value} or more
        number: is {value} or above
        number: is greater than or equal to {value}
        date: is on or after {value}
        date: falls on or after {value}
        date: is no earlier than {value}
        date: is not before {value}
        date: is {value} or later
        date: is from {value} on
    """,
    "<=": """
        number: is at most {value}
        number: is no more than {value}
        number: is not above {value}
        number: is {value} or less
        number: does not exceed {value}
        number: is less than or equal to {value}
        date: is on or before {value}
        date: falls on or before {value}
        date: is no later than {value}
        date: is not after {value}
        date: is {value} or earlier
    """,
    "LIKE %x%": """
        contains {value}
        includes {value}
        contains {value} anywhere
        has {value} in it
        has {value} somewhere in it
    """,
    "LIKE x%": """
        starts with {value}
        begins with {value}
        opens with {value}
        has {value} at the beginning
        has {value} at the very front
    """,
    "LIKE %x": """
        ends with {value}
        closes with {value}
        finishes with {value}
        has {value} at the end
        has {value} at the very back
    """,
    "NOT LIKE %x%": """
        does not contain {value}
        does not include {value}
        contains no {value}
        has no {value} in it
        has {value} nowhere in it
    """,
    "NOT LIKE x%": """
        does not start with {value}
        does not begin with {value}
        does not open with {value}
        starts with something other than {value}
        has no {value} at the beginning
    """,
    "NOT LIKE %x": """
        does not end with {value}
        does not close with {value}
        does not finish with {value}
        ends with something other than {value}
        has no {value} at the end
    """,
    "IN": """
        is one of {values}
        is any of {values}
        is any one of {values}
        equals one of {values}
    """,
    "NOT IN": """
        is none of {values}
        is not one of {values}
        is not any of {values}
        equals none of {values}
        is something other than {values}
    """,
    "BETWEEN": """
        is between {low} and {high}
        is from {low} to {high}
        is anywhere from {low} to {high}
        is in the range from {low} to {high}
        number: is at least {low} and at most {high}
        number: is no less than {low} and no more than {high}
        date: is no earlier than {low} and no later than {high}
    """,
    "NOT BETWEEN": """
        is not between {low} and {high}
        is outside the range from {low} to {high}
        is not in the range from {low} to {high}
        number: does not lie between {low} and {high}
        date: does not fall between {low} and {high}
    """,
    "IS NULL": """
        is missing
        is null
        is unknown
        has no value
        was never given
    """,
    "IS NOT NULL": """
        is not missing
        is not null
        is known
        has some value
        was given
    """,
}
"""Said after a column or an aggregate. Slots: `{value}`; IN: `{values}`; BETWEEN: `{low}` and `{high}`."""

HAVING: str = """
    keeping only groups whose {aggregate} {condition}
    only for groups whose {aggregate} {condition}
    and keep just those groups whose {aggregate} {condition}
    showing a group only if its {aggregate} {condition}
    and drop every group unless its {aggregate} {condition}
"""
"""Slots: `{aggregate}`, a pattern of `AGGREGATES` or `COUNT_ROWS`, and `{condition}`, one of `OPERATORS`."""

DISTINCT: str = """
    without duplicates
    with duplicates removed
    without repeated rows
    each combination only once
    with no row shown twice
"""
"""SELECT DISTINCT, said after the template. No slot."""

REPEATS: str = """
    with duplicates
    with duplicates kept
    including repeated rows
    each combination every time
    with each repetition shown too
"""
"""No DISTINCT where there might be one, in as many words and in the order of `DISTINCT`."""

LIMIT: str = """
    only the first {n} rows
    just the first {n} rows
    limited to {n} rows
    capped at {n} rows
    cut off after {n} rows
    stopping after {n} rows
    with at most {n} rows
    and no more than {n} rows
"""
"""Slot: `{n}`, at least 2."""

SCALAR: str = """
    the {aggregate} over all {table}
    the {aggregate} across all {table}
    the {aggregate} in the whole of {table}
    the {aggregate} taken over every row of {table}
"""
"""A subquery of one value, said as the `{value}` of an operator. Slots: `{aggregate}` and `{table}`."""

IN_SUBQUERY: str = """
    is among the {column} values of {table}
    appears among the {column} values of {table}
    occurs as {column} in {table}
    equals some {column} of {table}
"""
"""Said after a column; conditions on the inner table may follow. Slots: `{column}` and `{table}`."""

NOT_IN_SUBQUERY: str = """
    is not among the {column} values of {table}
    does not appear among the {column} values of {table}
    never occurs as {column} in {table}
    equals no {column} of {table}
"""
"""The negation of `IN_SUBQUERY`."""

EXISTS: str = """
    there is at least one row of {table} whose {left} equals {right}
    there is some row of {table} whose {left} equals {right}
    there exists a row of {table} whose {left} is equal to {right}
    there is a row of {table} whose {left} is the same as {right}
"""
"""A full condition. Slots: `{table}`, `{left}`, its column, and `{right}`, a column of the outer table."""

NOT_EXISTS: str = """
    there is no row of {table} whose {left} equals {right}
    there is not a single row of {table} whose {left} equals {right}
    there exists no row of {table} whose {left} is equal to {right}
    there is no row at all of {table} whose {left} equals {right}
"""
"""The negation of `EXISTS`."""

CTE: str = """
    first collect as {name} the {columns} of {table}
    first let {name} stand for the {columns} of {table}
    define {name} as the {columns} of {table}
    let {name} be the {columns} of {table}
"""
"""WITH, said first; conditions on its table follow. Slots: `{name}`, `{columns}` and `{table}`."""

CTE_THEN: str = """
    ; then
    , and then
    ; after that
"""
"""Said between `CTE` and the template, with no space before it. No slot."""

SET_OPERATIONS: dict[SetOperator, str] = {
    "UNION": """
        merged without repeats with the {columns} of {table}
        united, each result only once, with the {columns} of {table}
        plus, with repeats merged, the {columns} of {table}
        and add, but without repeating any, the {columns} of {table}
    """,
    "EXCEPT": """
        but leaving out the {columns} of {table}
        except those that are also among the {columns} of {table}
        minus the {columns} of {table}
        as far as they are not among the {columns} of {table}
    """,
    "INTERSECT": """
        as far as they are also among the {columns} of {table}
        if they occur as well among the {columns} of {table}
        keeping only what is also among the {columns} of {table}
        intersected with the {columns} of {table}
    """,
}
"""A second query, whose conditions may follow. Slots: `{columns}` and `{table}`. Each result comes once."""

WINDOWS: dict[WindowFunction, str] = {
    "ROW_NUMBER": """
        row number with no ties
        running number without any ties
        running row number without any ties
        running position without any ties
        sequence number with no number twice
        row number going up by one for each row
        number of its own for each row
    """,
    "RANK": """
        rank with gaps after ties
        rank with ties leaving gaps
        rank with ties sharing a place and leaving gaps
        rank with equal values tied and gaps behind them
    """,
    "SUM": """
        running total of {column} with ties added together
        running sum of {column} with tied rows added together
        running total of {column} where ties share one total
        cumulative sum of {column} with all ties included
        cumulative sum of {column} where tied rows share one sum
    """,
}
"""A window function, said where a column is said, in a list behind `a`. Slot: `{column}`, of SUM only.

Each says what becomes of rows that tie on the sort key: a number of their own, one rank, or the sum of them all
(the frame that SQL takes where none is written, RANGE).
"""

PARTITION_BY: str = """
    within each {columns}
    within the same {columns}
    separately inside each {columns}
    partitioned by {columns}
"""
"""Said after a window function. Slot: `{columns}`."""

WINDOW_ORDER: str = """
    in order of
    going in order of
    following the order of
"""
"""What introduces the sort key of a window: a column and its sort phrase. No slot."""

NAT_CLOSERS: str = """
    please
    thanks
    many thanks in advance
    if you can
    if you do not mind
    thanks a lot
"""
"""What a person says at the very end. No slot."""

DEMO_TEMPLATES: str = """
    show the {columns} of {table}
    list {columns} from {table}
    get the {columns} of all {table}
    from {table} give me {columns}
    find {columns} in {table}
    show the {columns}
    list every {columns}
    for all {table}, list the {columns}
    give me the {columns}
    i need {columns}
"""
"""The instructions of the small lexicon."""

DEMO_SORT_OPENERS: str = """
    sorted by
    ordered by
"""
"""The sort openers of the small lexicon."""

DEMO_SORT_PHRASES: str = """
    in [ascending] order | in [descending] order
    number: [lowest] first | [highest] first
    text: [alphabetically] | [reverse alphabetically]
    date: [oldest] first | [newest] first
"""
"""The sort phrases of the small lexicon."""
