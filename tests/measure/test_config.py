"""Settings from TOML, and mistakes with their file, line and key."""

from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.measure.config import DEFAULT_AXES, SweepConfig, load_config

GOOD = """
model = ["deepseek-v3", "llama-3.1-70b"]
kernel = "torch"
device = "cpu"
seed = 3
sampling_s = 2

[axes]
batch = [1, 8]
"kv_len[pow2]" = "10:12"
dtype = "float16"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def test_a_file_gives_the_same_as_options(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD)) == SweepConfig(
        axes={"batch": (1, 8), "kv_len": (1024, 2048, 4096), "dtype": ("float16",)},
        model=("deepseek-v3", "llama-3.1-70b"),
        kernel=("torch",),
        device="cpu",
        seed=3,
        sampling_s=2.0,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = 1\nmodle = 'x'\n", r"sweep.toml, line 2, key 'modle': unknown key 'modle': did you mean model"),
        ("seed = 'one'\n", r"line 1, key 'seed': seed takes a value like 0"),
        ("seed = true\n", r"seed takes a value like 0, not True"),
        ("model = [1]\n", r"model takes a name or a list of names"),
        (
            "seed = 1\nmodel = 'deepsek-v3'\n",
            r"line 2, key 'model': unknown model 'deepsek-v3': did you mean deepseek-v3",
        ),
        ("kernel = ['tritn']\n", r"line 1, key 'kernel': unknown kernel 'tritn': did you mean triton"),
        ("[axes]\nkv_len = 64\n'kv_len[pow2]' = 10\n", r"axis kv_len is given twice"),
        ("[axes]\nbatch = 1\nbacth = 2\n", r"line 3, key 'bacth': unknown axis 'bacth': did you mean batch"),
        ("[axes]\nbatch = 0\n", r"line 2, key 'batch': batch=0 must be a positive"),
        ("[axes]\nbatch = 1.5\n", r"line 2, key 'batch': axis 'batch' takes a whole number"),
        ("axes = 3\n", r"line 1, key 'axes': axes is a table"),
        ("seed = \n", r"sweep.toml: not TOML: .*line 1"),
    ],
)
def test_mistakes_name_file_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def test_nothing_asked_for_is_the_devices_small_sweep() -> None:
    assert SweepConfig().resolved("cpu", "cpu", "warm").axes == DEFAULT_AXES["cpu"]
    assert SweepConfig(model=("deepseek-v3",)).resolved("cpu", "cpu", "warm").axes == {}


def test_json_keeps_every_setting(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert SweepConfig.from_json(config.to_json()) == config
