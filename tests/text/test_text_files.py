"""Files are read block by block, and where the blocks end changes nothing."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.files import regular
from elman.text import text_files
from elman.text.tokenizers import TOKENIZERS, clean, cleaned, pieces

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(text=texts, size=st.integers(1, 9), packed=st.booleans(), mark=st.booleans())
def test_blocks_are_the_text_whatever_their_size(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, packed: bool, mark: bool
) -> None:
    path = tmp_path_factory.mktemp("texts") / "text"
    content = b"\xef\xbb\xbf" * mark + text.encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    advanced: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK_BYTES", size)
        found = "".join(text_files.blocks([path, path], advanced.append))
    wanted = content.decode("utf-8-sig")
    assert found == wanted + wanted
    assert sum(advanced) == 2 * path.stat().st_size


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_file_that_would_have_to_be_waited_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "kmsg"  # as /proc/kmsg it looks like a file, and may have nothing to read
    os.mkfifo(pipe)
    monkeypatch.setattr(regular, "_check_regular", lambda path, status: None)
    with pipe.open("r+b", buffering=0):
        for read in (lambda: list(text_files.blocks([pipe])), lambda: regular.read(pipe, 9)):
            with pytest.raises(ElmanError, match="kmsg: it is not a regular file"):
                read()


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(st.sampled_from(" \n\t\x1c\u180e\u3000aé,")) | texts, size=st.integers(1, 9))
def test_pieces_have_the_tokens_of_the_whole_numbered_in_the_order_of_first_sight(
    name: str, text: str, size: int
) -> None:
    used = TOKENIZERS[name]
    encoder = used.encoder()
    read = list(pieces(cut(text, size), used.cut))
    assert [token for piece in read for token in used.split(piece)] == used.split(text)
    found = [number for piece in read for number in encoder.ids(piece).tolist()]
    assert [encoder.tokens[number] for number in found] == used.split(text)
    assert len(encoder) == len(set(encoder.tokens))
    assert encoder.ids(text).tolist() == found


@given(text=st.text(st.sampled_from(" aB,\né")), size=st.integers(1, 9))
def test_cleaning_in_blocks_is_cleaning(text: str, size: int) -> None:
    assert "".join(cleaned(cut(text, size))) == clean(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbfgood \xff bad", "is not UTF-8 text: byte 8 is 0xff"),
        (b"cut off \xc3", "is not UTF-8 text: byte 8 is 0xc3"),
        (gzip.compress(b"good \xff bad", mtime=0), "is not UTF-8 text: byte 5 is 0xff"),
        (gzip.compress(b"a text that is cut off", mtime=0)[:-12], "cannot read"),
        (gzip.compress(b"a text that is changed", mtime=0)[:-8] + b"12345678", "cannot read"),
        ("plain", r"cannot read .*: Not a gzipped file"),  # in a file that is named gz
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1 << 20])
def test_bytes_that_are_not_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str, message: str, size: int
) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", size)
    path = tmp_path / ("text" if isinstance(content, bytes) else "text.gz")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ElmanError, match=message):
        list(text_files.blocks([path]))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_standard_input_that_others_have_set_not_to_wait_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end, other_end = os.pipe()
    os.set_blocking(end, False)
    with open(end) as file, open(other_end, "wb", buffering=0) as written:
        monkeypatch.setattr("sys.stdin", file)
        written.write(b"Once")
        assert text_files.standard_input().read(4) == b"Once"
        assert os.get_blocking(end)  # else the next read would find an end here


def test_a_sample_has_nothing_beyond_the_share(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.txt", tmp_path / "packed.gz"
    plain.write_text("a\n" * 400_000)
    packed.write_bytes(gzip.compress(b"b\n" * 400_000))
    (tmp_path / "empty.txt").touch()
    training = [tmp_path / "empty.txt", plain, packed]
    assert {*"".join(text_files.sample(training, 1 << 20, 0.5))} == {*"a\n"}
    assert {*"".join(text_files.sample([packed, plain], 1 << 20, 0.5))} == {*"b\n"}
    read = len("".join(text_files.sample([packed], 1 << 20, 0.25)))
    assert 199_000 < read <= 200_000  # whole lines
