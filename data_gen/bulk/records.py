"""Batch -> the columns of a dataset, as `example_table` writes them for rows that were made one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from data_gen.bulk.bodies import OPERATORS
from data_gen.bulk.drawing import Batch
from data_gen.bulk.loom import Ints, Loom, Woven
from data_gen.bulk.sentences import Sentences, bare_items, key_columns
from data_gen.bulk.speech import Book, book_of
from data_gen.bulk.statements import Statements, schema_columns
from data_gen.draw.splits import UNSEEN
from data_gen.example import MARKUP
from data_gen.query import AGGREGATES, command_set
from data_gen.schema import SQL_TYPES
from data_gen.vocabulary.lexicon import LEXICONS

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("english_prompt", "create_statement", "sql_statement", "prompt")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Records:
    """The columns of one batch, each made when it is asked for."""

    def __init__(self, batch: Batch) -> None:
        config, unseen = batch.config, UNSEEN[batch.config.split]
        self.batch = batch
        self.book: Book = book_of(config.lexicon, config.variant, "columns" in unseen, "tables" in unseen)
        self.rows = np.arange(len(batch.rows))
        self.at_names = self.book.deck.column_names[batch.at]
        self.main = np.where(batch.upwards, batch.tables[:, 0], batch.tables[:, 1])

    def weave_texts(self) -> Woven:
        """Prompts and answers; the sections are markup, question, markup, schema, markup, SQL."""
        loom = Loom(self.book.strings, len(self.rows))
        statements = Statements(self.batch, self.book, loom)
        parts = (
            lambda: loom.add("### Instruction:", MARKUP),
            Sentences(self.batch, self.book, loom).add,
            lambda: loom.add(" ### Context:", MARKUP),
            statements.add_schema,
            lambda: loom.add(" ### Response:", MARKUP),
            statements.add_sql,
        )
        for add in parts:
            add()
            loom.end_section()
        return loom.weave()

    def texts(self, woven: Woven) -> dict[str, pa.StringArray]:
        """The columns `TEXTS`; a space stands before question, schema and SQL."""
        starts = np.concatenate([[0], woven.offsets[woven.ends[:, -1]]])
        ends = woven.offsets[woven.ends]
        bounds = np.stack(
            [
                starts[:-1],
                ends[:, 0] + 1,
                ends[:, 1],
                ends[:, 2] + 1,
                ends[:, 3],
                ends[:, 4],
                ends[:, 4] + 1,
            ],
            axis=1,
        )
        sections = woven.strings(np.append(bounds.ravel(), starts[-1]))
        halves = woven.strings(np.append(np.stack([starts[:-1], ends[:, 4]], axis=1).ravel(), starts[-1]))
        count = bounds.shape[1]
        found = {
            name: sections.take(self.rows * count + place)
            for name, place in zip(TEXTS, (1, 3, 6), strict=False)
        }
        return found | {"prompt": halves.take(self.rows * 2)}

    def column(self, name: str) -> pa.Array:
        """One of the other columns but for `seed`, `split` and `roles`."""
        import pyarrow as pa

        config = self.batch.config
        if name in ("command_set", "variant"):
            value = self.batch.command_set if name == "command_set" else config.variant
            return pa.repeat(pa.scalar(value, pa.string()), len(self.rows))
        if name == "index":
            return pa.array(np.arange(self.batch.rows.start, self.batch.rows.stop, self.batch.rows.step))
        if name == "style":
            return pa.array(self._styles(), pa.string())
        if name == "table_name":
            return self._names().take(self.main)
        if name in ("table_name_synonym", "table_name_use_synonym"):
            return self._table_synonym(name)
        if name == "order_by" and not command_set(self.batch.command_set).orders:
            return pa.nulls(len(self.rows), pa.string())
        loom = Loom(self.book.strings, len(self.rows))
        writers = {
            "query": self._add_query,
            "table_fields": self._add_fields,
            "select": self._add_select,
            "order_by": self._add_order,
        }
        writers[name](loom)
        loom.end_section()
        woven = loom.weave()
        return woven.strings(np.concatenate([[0], woven.offsets[woven.ends[:, -1]]]))

    def _names(self) -> pa.StringArray:
        import pyarrow as pa

        return pa.array(self.book.deck.names, pa.string())

    def _styles(self) -> list[str]:
        config = self.batch.config
        head = f'{{"lexicon":{_json(config.lexicon)},"variant":{_json(config.variant)},"template":'
        pairs = zip(self.batch.templates.tolist(), self.batch.numbers.tolist(), strict=True)
        return [f'{head}{template},"number":{number}}}' for template, number in pairs]

    def _table_synonym(self, name: str) -> pa.Array:
        import pyarrow as pa

        names, known = self.book.names, LEXICONS[self.batch.config.lexicon].synonyms
        chosen = names.choose(self.batch.numbers, self.main, table=True)
        if name == "table_name_use_synonym":
            return pa.array(chosen >= 0)
        # What is not said so is the first synonym there is.
        numbers = names.synonyms[self.main, np.maximum(chosen, 0)].tolist()
        texts = self.book.strings.texts
        tables = [self.book.deck.names[number] for number in self.main.tolist()]
        firsts = [next(iter(known.get(table, ())), None) for table in tables]
        pairs = zip(chosen.tolist(), numbers, firsts, strict=True)
        return pa.array([texts[n][1:] if c >= 0 else first for c, n, first in pairs], pa.string())

    def _listed(
        self, loom: Loom, name: str, texts: Callable[[], list[str]], between: str
    ) -> tuple[Ints, Ints]:
        """Texts as the first of a list, and as those behind it."""
        firsts = self.book.block(name, texts)
        others = self.book.block(
            f"{name} behind", lambda: [between + loom.strings.texts[n] for n in firsts.tolist()]
        )
        return firsts, others

    def _quoted(self, names: Ints) -> Ints:
        """Names in quotation marks."""
        return self.book.block("quoted", lambda: [_json(name) for name in self.book.deck.names])[names]

    def _outputs(self, form: str) -> Callable[[], list[str]]:
        """The form with each name in it, bare and behind each aggregate: by aggregate + 1, and by name."""
        names = [_json(name)[1:-1] for name in self.book.deck.names]
        heads = ["", *[f"{function}_" for function in AGGREGATES]]
        return lambda: [form.replace("%s", head + name) for head in heads for name in names]

    def _output(self, functions: Ints, names: Ints) -> Ints:
        return (functions + 1) * len(self.book.deck.names) + names

    def _add_query(self, loom: Loom) -> None:
        batch, add = self.batch, loom.add
        items = self._listed(loom, "query items", self._query_items, ",")
        add('{"select":[')
        for index in range(int(batch.item_counts.max())):
            names = self.at_names[self.rows, batch.items[:, index]]
            place = self._output(batch.functions[:, index], names)
            add(items[index > 0][place], where=batch.item_counts > index)
        add('],"table":')
        add(self._quoted(self.main))
        self._add_join(loom)
        self._add_where(loom)
        columns, counts = bare_items(batch)
        for index in range(int(counts.max())):
            add(',{"column":' if index else ',"group_by":[{"column":', where=counts > index)
            add(self._quoted(self.at_names[self.rows, columns[:, index]]), where=counts > index)
            add("}]", where=counts == index + 1)
            add("}", where=counts > index + 1)
        keys = self._listed(loom, "query keys", self._outputs('{"column":"%s","direction":"'), ",")
        add(',"order_by":[', where=batch.key_counts > 0)
        self._add_keys(loom, keys, ['ASC"}', 'DESC"}'])
        add("]", where=batch.key_counts > 0)
        add(f',"command_set":{_json(batch.command_set)},"schema":{{"tables":[')
        for side in range(2):
            self._add_table(loom, side, batch.joined if side else np.ones(len(self.rows), bool))
        add("]}}")

    def _query_items(self) -> list[str]:
        names = [_json(name) for name in self.book.deck.names]
        bare = [f'{{"column":{name}}}' for name in names]
        return bare + [
            f'{{"column":{name},"aggregate":"{function}","alias":"{function}_{name[1:]}}}'
            for function in AGGREGATES
            for name in names
        ]

    def _add_keys(self, loom: Loom, keys: tuple[Ints, Ints], ways: list[str]) -> None:
        """Sort keys; `ways`: how each ends when it ascends, and when it descends."""
        batch = self.batch
        up, down = map(loom.strings.number, ways)
        for index in range(int(batch.key_counts.max())):
            there = batch.key_counts > index
            _, functions, places = key_columns(batch, index)
            names = self.at_names[self.rows, places]
            loom.add(keys[index > 0][self._output(functions, names)], where=there)
            loom.add(np.where(batch.descending[:, index], down, up), where=there)

    def _add_join(self, loom: Loom) -> None:
        batch, deck = self.batch, self.book.deck
        child, parent, up, there = batch.tables[:, 0], batch.tables[:, 1], batch.upwards, batch.joined
        key = deck.keys[parent]
        pieces: list[str | Ints] = [',"joins":[{"table":', np.where(up, parent, child)]
        pieces += [',"left":{"column":', np.where(up, key, deck.id_name)]
        pieces += [',"table":', np.where(up, child, parent)]
        pieces += ['},"right":{"column":', np.where(up, deck.id_name, key)]
        pieces += [',"table":', np.where(up, parent, child), "}}]"]
        for piece in pieces:
            loom.add(piece if isinstance(piece, str) else self._quoted(piece), where=there)

    def _add_where(self, loom: Loom) -> None:
        batch = self.batch
        literals = self.book.block(
            "literals", lambda: [f"{_json(value)}]}}]" for value in self.book.deck.literals]
        )
        forms = [f',"operator":"{operator}","values":[' for operator in OPERATORS]
        operators = self.book.block("operators", lambda: forms)
        for index in range(int(batch.condition_counts.max())):
            there = batch.condition_counts > index
            loom.add(',[{"column":' if index else ',"where":[[{"column":', where=there)
            loom.add(self._quoted(self.at_names[self.rows, batch.conditions[:, index]]), where=there)
            loom.add(operators[batch.operators[:, index]], where=there)
            loom.add(literals[batch.literals[:, index]], where=there)
        loom.add("]", where=batch.condition_counts > 0)

    def _typed(self, form: str) -> Callable[[], list[str]]:
        """The form with each name and each type in it: by name, and by type."""
        names = self.book.deck.names
        return lambda: [
            form.replace("%n", _json(name)).replace("%t", kind).replace("%s", first)
            for name, first in zip(names, self._first_synonyms(), strict=True)
            for kind in SQL_TYPES
        ]

    def _first_synonyms(self) -> list[str]:
        known = LEXICONS[self.batch.config.lexicon].synonyms
        return [json.dumps(next(iter(known.get(name, ())), None)) for name in self.book.deck.names]

    def _add_columns(self, loom: Loom, side: int, columns: tuple[Ints, Ints], there: np.ndarray) -> None:
        names, types, counts = schema_columns(self.batch, side)
        counts = np.where(there, counts, 0)
        for place in range(int(counts.max())):
            number = names[:, place] * len(SQL_TYPES) + types[:, place]
            loom.add(columns[place > 0][number], where=counts > place)

    def _add_table(self, loom: Loom, side: int, there: np.ndarray) -> None:
        columns = self._listed(loom, "query columns", self._typed('{"name":%n,"type":"%t"}'), ",")
        loom.add(',{"name":' if side else '{"name":', where=there)
        loom.add(self._quoted(self.batch.tables[:, side]), where=there)
        loom.add(',"columns":[', where=there)
        self._add_columns(loom, side, columns, there)
        loom.add("]}", where=there)

    def _add_fields(self, loom: Loom) -> None:
        form = '{"name": %n, "type": "%t", "synonym": %s, "use_synonym": false}'
        fields = self._listed(loom, "fields", self._typed(form), ", ")
        loom.add("[")
        self._add_columns(loom, 0, fields, np.ones(len(self.rows), bool))
        self._add_columns(loom, 1, (fields[1], fields[1]), self.batch.joined)
        loom.add("]")

    def _add_select(self, loom: Loom) -> None:
        batch, book, synonyms = self.batch, self.book, self.book.names.synonyms
        heads = self._listed(loom, "item heads", self._item_heads, ", ")
        unused = book.block(
            "unused", lambda: [f'{text}, "use_synonym": false}}' for text in self._first_synonyms()]
        )
        texts = [loom.strings.texts[number][1:] for number in synonyms.ravel().tolist()]
        used = book.block("used", lambda: [f'{json.dumps(text)}, "use_synonym": true}}' for text in texts])
        loom.add("[")
        for index in range(int(batch.item_counts.max())):
            there = batch.item_counts > index
            names = self.at_names[self.rows, batch.items[:, index]]
            chosen = book.names.choose(batch.numbers, names)
            loom.add(heads[index > 0][self._output(batch.functions[:, index], names)], where=there)
            said = used[names * synonyms.shape[1] + np.maximum(chosen, 0)]
            loom.add(np.where(chosen >= 0, said, unused[names]), where=there)
        loom.add("]")

    def _item_heads(self) -> list[str]:
        return [
            f'{{"name": {json.dumps(name)}, "aggregate": "{function}", "synonym": '
            for function in ("", *AGGREGATES)
            for name in self.book.deck.names
        ]

    def _add_order(self, loom: Loom) -> None:
        keys = self._listed(loom, "order keys", self._outputs('{"name": "%s", "asc": '), ", ")
        loom.add("[")
        self._add_keys(loom, keys, ["true}", "false}"])
        loom.add("]")
