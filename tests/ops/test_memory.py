"""When memory is given back: when many readers have gone, however slowly, and once."""

from bridge.ops.memory import READERS, Memory


def test_nothing_is_given_back_while_readers_come():
    memory = Memory()
    assert not any(memory.note(readers) for readers in range(0, 10 * READERS, 7))


def test_many_that_go_at_once():
    memory = Memory()
    memory.note(5 * READERS)
    assert memory.note(0)
    assert not memory.note(0)
    memory.note(READERS)
    assert memory.note(0)


def test_many_that_go_one_by_one():
    memory = Memory()
    given_back = [readers for readers in range(3 * READERS, -1, -1) if memory.note(readers)]
    assert given_back == [2 * READERS, READERS, 0]


def test_a_few_that_come_and_go():
    memory = Memory()
    assert not any(memory.note(readers) for readers in (500, 500 - READERS + 1, 500, 500 - READERS + 1) * 10)
