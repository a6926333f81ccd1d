"""The names that `import headway` offers."""

import headway


def test_the_public_names_are_sorted_complete_and_there():
    assert sorted(headway.__all__) == headway.__all__
    for name in headway.__all__:
        assert getattr(headway, name) is not None


def test_every_lazy_name_is_listed():
    lazy = {name for names in headway._HOMES.values() for name in names}
    assert lazy == set(headway.__all__)
