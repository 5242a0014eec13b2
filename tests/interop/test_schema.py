"""The JSON Schema of the configuration, by real validators: jsonschema, and Taplo, which editors use.

What the program accepts, the schema must accept: an editor must not call wrong what is right. Of what the program refuses, the
schema must find what stands in one value: unknown and missing keys, types, words, bounds.
"""

import copy
import json
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

from support.processes import ROOT, tollgate
from support.signing import PRIVATE, private_pem, public_jwk, write_jwks

SCHEMA_FILE = ROOT / "config" / "tollgate.schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
TAPLO = Path(sys.executable).with_name("taplo")
GOLDEN = sorted((ROOT / "tests" / "golden" / "config").glob("*.txt"))

# What `check` says of a problem that one value shows by itself.
SEEN_BY_THE_SCHEMA = re.compile(
    r"there is no key `"
    r"|` is missing$"
    r"|^`[\w.-]+(\[\d+\])*` is not supported yet$"
    r"|, and this is (a|true)"
    r"|` must be from \d"
    r"|` must be one of "
    r"|` is no algorithm|` is no method"
    r"|` is no duration|` is a duration, which needs"
    r"|needs a limit, so \"none\"",
    re.MULTILINE,
)

# One value for every key that must be there, and one of each list and named table.
SEED = """
[[login.aliases]]
path = "/authenticate"
does = "login"
[issuers.lab]
issuer = "lab"
audiences = ["a"]
algorithms = ["HS256"]
secret = { env = "LAB_SECRET" }
[upstreams.app]
servers = ["http://127.0.0.1:9001"]
[[routes]]
path = "/{*rest}"
upstream = "app"
"""
ENVIRONMENT = {"LAB_SECRET": "sixty-four-characters-of-a-secret-that-only-this-very-test-knows"}
WRONG = {"string": 7, "integer": "seven", "boolean": "true", "array": "text", "object": ["text"]}


def taplo(*files: Path) -> subprocess.CompletedProcess[str]:
    """`taplo check` by the published schema, named as a file."""
    command = [TAPLO, "check", "--schema", f"file://{SCHEMA_FILE}", *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def files_of_the_project() -> list[Path]:
    """Every configuration file that the project ships."""
    return [*sorted((ROOT / "config").glob("*.toml")), *sorted((ROOT / "examples").rglob("tollgate*.toml"))]


def test_the_schema_is_one():
    """By the rules of draft 7, and no key without a description."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for path, schema in values_of(SCHEMA, ()):
        assert schema.get("description"), f"{path} has no description"


def test_every_file_of_the_project_names_the_schema_and_is_good_by_it():
    """Its first line leads an editor to the schema, from where it lies."""
    files = files_of_the_project()
    assert len(files) >= 5, files
    for file in files:
        first = file.read_text().splitlines()[0]
        assert first.startswith("#:schema ./") or first.startswith("#:schema ../"), f"{file}: {first}"
        assert (file.parent / first.removeprefix("#:schema ")).resolve() == SCHEMA_FILE, file
        assert not list(VALIDATOR.iter_errors(tomllib.loads(file.read_text()))), file
    done = taplo(*files)
    assert done.returncode == 0, done
    # By the first line alone, as an editor finds it.
    done = subprocess.run([TAPLO, "check", *files], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done


def test_every_configuration_in_the_readme_is_good_by_the_schema():
    """The blocks that README.md marks as whole configurations."""
    blocks = re.findall(r"<!-- a whole configuration -->\n+```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        assert not list(VALIDATOR.iter_errors(tomllib.loads(block))), block


def test_a_misspelt_key_is_found_by_both_validators(tmp_path):
    """With the place, so that an editor can mark it."""
    file = tmp_path / "tollgate.toml"
    text = (ROOT / "config" / "minimal.toml").read_text()
    file.write_text(text.replace("upstream = ", "upstraem = ") + "\n[servre]\nworkers = 1\n")
    found = sorted(error.message for error in VALIDATOR.iter_errors(tomllib.loads(file.read_text())))
    assert any("'upstraem' was unexpected" in message for message in found), found
    assert any("'servre' was unexpected" in message for message in found), found
    assert any("'upstream' is a required property" in message for message in found), found
    done = taplo(file)
    assert done.returncode != 0 and "upstraem" in done.stderr and "servre" in done.stderr, done


def test_every_golden_case_is_judged_as_the_program_judges_it():
    """A good file passes; a problem that one value shows by itself is found."""
    passed = refused = 0
    for case in GOLDEN:
        text, expected = case.read_text().split("----------\n")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            assert expected != "good\n", case
            continue
        errors = list(VALIDATOR.iter_errors(document))
        if expected == "good\n" or expected.startswith("warning:"):
            assert not errors, (case, errors)
            passed += 1
        elif SEEN_BY_THE_SCHEMA.search(expected):
            assert errors, f"{case.name}: the schema finds nothing of:\n{expected}"
            refused += 1
    assert passed >= 1 and refused >= 15, (passed, refused)


def values_of(schema: dict, path: tuple) -> list[tuple[tuple, dict]]:
    """Every key that has a value, by its path in `SEED`, with its part of the schema."""
    found = []
    for name, part in schema["properties"].items():
        below = part.get("additionalProperties")
        if "properties" in part and "maxProperties" not in part:
            found += values_of(part, (*path, name))
        elif isinstance(below, dict) and "properties" in below:
            found += values_of(below, (*path, name, {"issuers": "lab", "upstreams": "app"}[name]))
        elif "properties" in part.get("items", {}) and "maxProperties" not in part["items"]:
            found += values_of(part["items"], (*path, name, 0))
        else:
            found.append(((*path, name), part))
    return found


def candidates(schema: dict) -> tuple[list, list]:
    """Values that both must accept, and values that both must refuse."""
    good, bad = [], []
    if "default" in schema:
        good.append(schema["default"])
    if "anyOf" in schema:
        bad += [7, {"enf": "X"}]
        return good, bad
    kind = schema["type"]
    bad.append(WRONG[kind])
    if kind == "integer":
        for bound, step in (("minimum", -1), ("maximum", 1)):
            if bound in schema:
                good.append(schema[bound])
                bad.append(schema[bound] + step)
        bad.append(1.5)
    elif "enum" in schema:
        good += schema["enum"]
        bad += ["nothing-like-it", ""]
    elif kind == "boolean":
        good += [True, False]
    elif kind == "array":
        bad += [[7], [[]]]
        if "enum" in schema["items"]:
            good += [[word] for word in schema["items"]["enum"]]
            bad += [["nothing-like-it"]]
        if schema.get("minItems"):
            bad.append([])
        if schema.get("uniqueItems") and schema.get("default"):
            bad.append([schema["default"][0]] * 2)
    elif kind == "object" and "maxProperties" in schema:
        bad += [{}, {"env": "LAB_SECRET", "file": "x"}, {"enf": "LAB_SECRET"}]
    elif "(ms|s|m|h|d)" in schema.get("pattern", ""):
        good += ["45s", "030s", "60000ms"] + (["none"] if "none" in schema["pattern"] else [])
        bad += ["", "10", "75 seconds", "1.5s", "-1s", "1w", "s"] + ([] if "none" in schema["pattern"] else ["none"])
        bad += [] if schema["pattern"].startswith("^[0-9]+") else ["0s", "0ms"]
    elif schema.get("pattern", "").startswith("^."):
        bad.append("")
    return good, bad


def with_value(path: tuple, value: object) -> dict:
    """The seed with one key more, or another value of it."""
    document = copy.deepcopy(tomllib.loads(SEED))
    table = document
    for part in path[:-1]:
        table = table[part] if isinstance(part, int) else table.setdefault(part, {})
    table[path[-1]] = value
    if path[:2] == ("store", "users"):  # Which SQLite does not have.
        document["store"]["url"] = "mongodb://127.0.0.1:27017/people"
    if path == ("login", "cookie", "same_site") and value == "none":  # Which browsers take with `Secure` only.
        table["secure"] = True
    fetched = ("discovery", "jwks_refresh", "jwks_cooldown", "jwks_max_stale")
    if path[:2] == ("issuers", "lab") and path[2] in fetched and value is not False:
        lab = document["issuers"]["lab"]
        lab |= {"issuer": "https://lab.example.org", "algorithms": ["ES256"], "discovery": lab.get("discovery", True)}
        del lab["secret"]
        if path[2] == "jwks_max_stale":
            lab["jwks_refresh"] = "1s"
    if path == ("issuers", "lab", "algorithms") and value and not str(value[0]).startswith("HS"):
        del document["issuers"]["lab"]["secret"]
        document["issuers"]["lab"]["keys"] = [{"jwk_file": "keys.json"}]
    if path[:3] == ("upstreams", "app", "token") and table.setdefault("mode", "mint") == "mint":
        if path[-1] == "algorithm" and value in PRIVATE:
            table["key"] = {"file": f"{value}.pem"}
        else:
            table.setdefault("secret", {"env": "LAB_SECRET"})
    return document


def toml(value: object) -> str:
    """A value as TOML on one line; JSON but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> list[tuple[tuple, object, bool, bool, list, str]]:
    """Every key with every candidate: path, value, whether it should pass, and what the program and the schema say."""
    folder = tmp_path_factory.mktemp("agreement")
    write_jwks(folder / "keys.json", *(public_jwk(algorithm, algorithm) for algorithm in PRIVATE))
    for algorithm in PRIVATE:
        (folder / f"{algorithm}.pem").write_bytes(private_pem(algorithm))
    # What the general candidates would get into a quarrel with another key, or with a bound that a schema cannot tell.
    goods = {
        ("tokens", "refresh_ttl"): ["1h", "0060m", "3600s"],
        ("tokens", "session_ttl"): ["30d", "0048h", "86400s"],
        ("revocation", "poll_interval"): ["500ms", "01s", "2s"],
        # Shorter ones would publish more keys than serve.
        ("tokens", "rotate_every"): ["none", "1h", "90d", "365d"],
    }
    cases = []
    for path, schema in values_of(SCHEMA, ()):
        good, bad = candidates(schema)
        good = goods.get(path, good)
        if path[-1] == "keys":
            good = []  # The default stands for a key left out; written down it is one that an issuer with a secret has no use for.
        cases += [(path, value, True) for value in good] + [(path, value, False) for value in bad]

    def judge(numbered):
        number, (path, value, is_good) = numbered
        document = with_value(path, value)
        file = folder / f"{number}.toml"
        file.write_text("".join(f"{name} = {toml(part)}\n" for name, part in document.items()))
        assert tomllib.loads(file.read_text()) == document
        done = tollgate("check", "-c", file, environment=ENVIRONMENT)
        return path, value, is_good, done.returncode == 0, list(VALIDATOR.iter_errors(document)), done.stderr

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(judge, enumerate(cases)))


def test_the_schema_and_the_program_agree_on_every_key(judged):
    """Types, words and bounds of every key: what one accepts the other accepts, at the bounds and beyond."""
    paths = {path for path, *_ in judged}
    assert len(paths) >= 60 and len(judged) >= 300, (len(paths), len(judged))
    differing = []
    for path, value, is_good, accepted, errors, said in judged:
        if (accepted, not errors) != (is_good, is_good):
            differing.append(f"{path} = {value!r}: should pass {is_good}, program {accepted}, schema {not errors}: {said}")
    assert not differing, "\n".join(differing)


def test_the_words_that_the_program_names_are_those_of_the_schema(judged):
    """A word that only the program knew would be called wrong by an editor."""
    named = 0
    schemas = dict(values_of(SCHEMA, ()))
    for path, value, _, _, _, said in judged:
        schema = schemas[path]
        if "enum" in schema and value == "nothing-like-it" and "must be one of" in said:
            words = re.findall(r"`([^`]+)`", re.search(r"must be one of (.*)", said)[1])
            assert words == schema["enum"], path
            named += 1
        bounds = re.search(r"` must be from (\d+) to (\d+)$", said, re.MULTILINE)
        if bounds and "minimum" in schema:
            assert int(bounds[1]) == schema["minimum"], path
            assert int(bounds[2]) == schema.get("maximum", 2**63 - 1), path
            named += 1
    assert named >= 20, named
