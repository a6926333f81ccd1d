"""The two checks of `make check` that hold names, sizes and first sentences."""

from pathlib import Path

import pytest
from scripts import shape, words

MODULE = Path("src/headway/clock.py")
OTHER = Path("bench/rates.py")


def shape_of(text: str, path: Path = MODULE) -> list[str]:
    return list(shape.faults(path, text))


def class_with(attributes: int = 0, methods: int = 0, name: str = "Thing") -> str:
    fields = [f"    field_{number}: int" for number in range(attributes // 2)]
    assigned = [f"        self.a_{number} = 0" for number in range(attributes - attributes // 2)]
    others = [f"    def method_{number}(self): ..." for number in range(methods - 1)]
    first = ["    def __init__(self):", "        pass", *assigned] if methods else []
    return "\n".join([f"class {name}:", "    pass", *fields, *first, *others, ""])


def test_a_class_may_have_as_much_as_the_limits_say():
    text = class_with(shape.CLASS_ATTRIBUTES, shape.CLASS_METHODS)
    assert shape_of(text) == []


def test_a_class_with_too_many_attributes_is_refused_where_it_stands():
    (fault,) = shape_of("\n\n" + class_with(shape.CLASS_ATTRIBUTES + 1, 1))
    assert fault.startswith("src/headway/clock.py:3: Thing has 16 attributes of 15")


def test_a_class_with_too_many_methods_is_refused():
    (fault,) = shape_of(class_with(0, shape.CLASS_METHODS + 1))
    assert fault.startswith("src/headway/clock.py:1: Thing has 31 methods of 30")


def test_a_class_with_a_reason_may_be_large():
    assert shape_of(class_with(50, 1, name="Settings")) == []
    assert all(shape.LARGE_CLASSES.values())


@pytest.mark.parametrize("word", ["Who", "What", "Whose", "Whether"])
def test_a_docstring_has_a_subject_or_a_verb(word: str):
    (fault,) = shape_of(f'def run():\n    """{word} asks.\n\n    And more."""\n')
    assert fault.startswith(f"src/headway/clock.py:2: a docstring begins with {word!r}")
    assert shape_of(f'class Run:\n    """{word} asks."""\n')
    assert shape_of(f'"""{word} asks."""\n')


def test_a_docstring_may_have_such_a_word_further_on():
    assert shape_of('def run():\n    """Return whether it runs, and what it does."""\n') == []
    assert shape_of('def run():\n    """Whatever it does."""\n') == []


def test_docstrings_of_what_is_not_the_package_are_left_alone():
    assert shape_of('def run():\n    """What runs."""\n', OTHER) == []


def test_a_long_file_is_refused_where_two_classes_share_it():
    one, two = "class One: ...\n", "class Two: ...\n"
    filling = "\n" * shape.FILE_LINES
    assert shape_of(one + "class _Two: ...\n" + filling) == []
    (fault,) = shape_of(one + two + filling)
    assert "502 lines of 500" in fault
    assert "One, Two" in fault


def test_a_very_long_file_is_refused_whatever_is_in_it():
    (fault,) = shape_of("\n" * (shape.LONGEST_FILE_LINES + 1))
    assert "601 lines of 600" in fault


def test_a_long_function_is_refused_everywhere():
    lines = "    x = 0\n" * (shape.FUNCTION_LINES + 1)
    (fault,) = shape_of(f"\ndef run():\n{lines}", OTHER)
    assert fault == "bench/rates.py:2: run has 46 lines of 45"


def test_a_file_name_that_says_nothing_is_refused():
    (fault,) = shape_of("", Path("bench/utils.py"))
    assert "names no part of the problem" in fault


def test_a_file_name_occurs_once_in_the_package():
    shape_names = [Path("src/headway/one/tasks.py"), Path("src/headway/two/tasks.py")]
    (fault,) = shape.name_faults(shape_names)
    assert fault.startswith("src/headway/two/tasks.py:1: there is a 'tasks' at src/headway/one/")


def test_some_file_names_may_occur_again():
    inside = [Path("src/headway/one/store.py"), Path("src/headway/two/store.py")]
    outside = [Path("tests/a/tasks.py"), Path("tests/b/tasks.py")]
    assert list(shape.name_faults([*inside, *outside])) == []


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("\nclass Voice: ...\n", "OutputLimits"),
        ("\nclass RunBreath: ...\n", "CooperativeYield"),
        ("\nclass _Doorkeeper: ...\n", "ConnectionLimiter"),
        ("\nclass Tail: ...\n", "StreamBuffer"),
        ("\nPATIENCE = 5.0\n", "ROUND_TRIP_TIMEOUT"),
        ("\n_AGAIN: float = 5.0\n", "RETRY_DELAY"),
        ("\nBOARD_LIMIT = 5.0\n", "BroadcastStream"),
    ],
)
def test_a_retired_name_is_refused_with_what_to_write_instead(text: str, instead: str):
    (fault,) = words.faults(MODULE, text)
    assert fault.startswith("src/headway/clock.py:2: ")
    assert instead in fault


def test_a_module_may_have_no_retired_name():
    (fault,) = words.faults(Path("src/headway/journal/tail.py"), "")
    assert "stream_buffer" in fault


def test_a_retired_name_may_be_a_part_of_a_longer_one():
    text = "class QueuedWork: ...\nREAD_PATIENCE = 1.0\nclass Keyboard: ...\n"
    assert list(words.faults(MODULE, text)) == []


def test_names_inside_of_functions_and_sentences_are_free():
    text = '"""A Voice on the Board."""\n\ndef run():\n    PATIENCE = 1\n    return PATIENCE\n'
    assert list(words.faults(MODULE, text)) == []


KNOWN = {"clock", "journal", "run", "query", "stream", "buffer"}


def unknown_in(text: str, path: Path = MODULE) -> list[str]:
    return list(words.unknown_faults(path, text, KNOWN))


def test_a_class_has_only_words_that_a_newcomer_knows():
    assert unknown_in("class StreamBuffer: ...\nclass _Runs: ...\nclass Queries: ...\n") == []
    (fault,) = unknown_in("\nclass RunGizmo: ...\n")
    assert fault.startswith("src/headway/clock.py:2: RunGizmo has the word 'gizmo'")
    assert "docs/glossary.md" in fault


def test_so_has_a_file_and_so_has_its_folder():
    (fault,) = unknown_in("", Path("src/headway/journal/gizmos.py"))
    assert "'gizmos'" in fault
    (fault,) = unknown_in("", Path("src/headway/gizmo/__init__.py"))
    assert "'gizmo'" in fault


def test_the_glossary_and_the_common_words_have_no_retired_word():
    known = words.known_words()
    assert {"lease", "wakeup", "http"} <= known
    assert not known & words.RETIRED_WORDS.keys()
