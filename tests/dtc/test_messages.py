import json
import re
import struct

import pytest

from mia_daemon.dtc import enums
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.layout import CType, Text
from mia_daemon.dtc.messages import MESSAGES, FlattenPositionsForTradeAccount, HistoricalPriceDataRecordResponse

OVERLAID = {(803, "OpenInterest")}  # shares NumTrades' place in the header's union


@pytest.fixture(scope="module")
def reference(shared_dir):
    layout = json.loads((shared_dir / "sierra" / "layout.json").read_text())
    return {entry["type"]: entry for entry in layout.values() if entry["type"] > 0}


@pytest.fixture(scope="module")
def reference_enums(shared_dir):
    return json.loads((shared_dir / "sierra" / "enums.json").read_text())


def test_all_structures_are_declared_and_only_one_more(reference):
    assert len(reference) == 100
    assert set(MESSAGES) - set(reference) == {FlattenPositionsForTradeAccount.TYPE}
    assert set(reference) <= set(MESSAGES)


def test_sizes_offsets_and_c_types_equal_the_compiled_header(reference, reference_enums):
    lengths = reference_enums["string_lengths"]
    for type_, entry in reference.items():
        layout = MESSAGES[type_].LAYOUT
        assert layout.size == entry["size"], entry["struct"]
        assert layout.codec.size == entry["size"]
        expected = [
            (f["name"], f["offset"], f["size"], c_type(f["ctype"], lengths))
            for f in entry["fields"][2:]
            if (type_, f["name"]) not in OVERLAID
        ]
        assert [(f.name, f.offset, f.size, wire_name(f.wire)) for f in layout.fields] == expected


def c_type(text, lengths):
    text = text.removeprefix("DTC::")
    if match := re.fullmatch(r"char\[(\w+)]", text):
        length = match[1]
        return f"char[{length if length.isdigit() else lengths[length]}]"
    return text


def wire_name(wire):
    match wire:
        case CType(name=name):
            return name
        case Text(length=length):
            return f"char[{length}]"
    return wire.__name__


def test_defaults_equal_the_compiled_header(reference):
    for type_, entry in reference.items():
        assert encode(MESSAGES[type_]()).hex() == entry["default_hex"], entry["struct"]


def test_class_names_are_those_of_the_header(reference, reference_enums):
    for type_, entry in reference.items():
        assert f"s_{MESSAGES[type_].__name__}" == entry["struct"]
    assert reference_enums["message_types"] == {cls.NAME: type_ for type_, cls in MESSAGES.items()}


def test_enumerations_equal_the_header(reference_enums):
    codes = {"int8_t": "b", "uint8_t": "B", "int16_t": "h", "uint16_t": "H", "int32_t": "i"}
    for name, entry in reference_enums["enums"].items():
        declared = getattr(enums, name)
        assert {member.name: member.value for member in declared} == entry["values"], name
        assert enums.base_code(declared) == codes[entry["base"]]


def test_numpy_dtype_reads_what_the_codec_writes():
    for cls in MESSAGES.values():
        layout = cls.LAYOUT
        dtype = layout.dtype()
        assert dtype.itemsize == layout.size
        for field in layout.fields:
            assert dtype.fields[field.name][1] == field.offset
            assert dtype.fields[field.name][0].itemsize == struct.calcsize(f"<{field.code}")


def test_dtype_of_chosen_fields_ends_at_the_last():
    dtype = HistoricalPriceDataRecordResponse.LAYOUT.dtype(("RequestID", "OpenPrice"))
    assert dtype.names == ("Size", "Type", "RequestID", "OpenPrice")
    assert dtype.itemsize == 24


def test_layout_knows_its_fields_by_name():
    assert MESSAGES[203].LAYOUT.field("TradeAccount").offset == 68
    with pytest.raises(KeyError):
        MESSAGES[203].LAYOUT.field("Nothing")
