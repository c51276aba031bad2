"""The notebooks' parameters and the runner, as a user meets them."""

import ast
import html
import json
import re
import shlex
import subprocess
import symtable
import sys
from importlib.metadata import entry_points

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import yaml
from PIL import Image

from reluprime import records
from reluprime.cli import main
from reluprime.report import page as parameters
from reluprime.report import plan
from reluprime.report import run as notebook
from reluprime.report import scorecard as claims
from reluprime.report.run import PROFILES, Page, as_html, check_parameters, paths

ANNOTATIONS = {"profile": str, "n_networks": int, "precisions": list[str], "caps": dict[str, int]}
GOOD = {"profile": "report", "n_networks": 20, "precisions": ["fp32"], "caps": {}}


def test_good_parameters_pass_among_what_ipython_adds():
    check_parameters(GOOD | {"_i1": "", "In": [], "get_ipython": None}, ANNOTATIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_network": 20}, "unknown parameter n_network; choose from caps, n_networks"),
        ({"n_networks": "20"}, "n_networks='20': Input should be a valid integer"),
        ({"n_networks": 2.5}, "n_networks=2.5"),
        ({"precisions": "fp32"}, "precisions='fp32': Input should be a valid list"),
        ({"caps": {"fp16": "x"}}, "caps.fp16='x'"),
        ({"profile": "slow"}, "profile='slow'; choose one of"),
    ],
)
def test_a_wrong_parameter_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_parameters(GOOD | changes, ANNOTATIONS)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("04_mitigation", {"normalised": ["vgg"]}, "normalised.0='vgg'"),
        ("04_mitigation", {"epochs_at_most": {"fp61": 1}}, "epochs_at_most.fp61"),
        ("04_mitigation", {"seeds_at_most": {"fp16": 0}}, "seeds_at_most.fp16=0"),
        ("02_relative_volume", {"table_at_most": {"half": 9}}, "table_at_most.half"),
        ("02_relative_volume", {"precisions": []}, "precisions=[]"),
        ("01_bifurcation_event", {"seeds": 0}, "seeds=0"),
        ("03_training_curves", {"mlp_s": [1.0, 10.0]}, "0 must be among them"),
        ("03_training_curves", {"tuned_seeds": -1}, "tuned_seeds=-1"),
        ("08_replication_fc", {"fc_precisions": ["fp16"]}, "fp32 and bf16 must be among them"),
        ("09_mobilenet_tuning", {"mobilenet_search_repeats": 0}, "mobilenet_search_repeats=0"),
        ("10_where_zeros_come_from", {"form_networks": {"fp32": 1}}, "fp16 and bf16 must be"),
        ("12_beyond_relu", {"kink_epochs": []}, "kink_epochs=[]"),
    ],
)
def test_what_would_do_nothing_or_fail_late_is_refused(name, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Page(name, defaults(name) | wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("01_bifurcation_event", {"resolution": 1}),
        ("02_relative_volume", {"small_networks": 0}),
        ("03_training_curves", {"search_epochs": 0}),
        ("03_training_curves", {"search_trials": 0}),
        ("04_mitigation", {"precisions_mlp": ["fp8"]}),
        ("04_mitigation", {"dropouts": [1.5]}),
        ("04_mitigation", {"adam_datasets": ["imagenet"]}),
        ("05_zero_calls", {"zero_epochs": {"fp32": 0}}),
        ("06_conv_volume", {"norm_batches": 0}),
        ("08_replication_fc", {"fc_epochs": 0}),
        ("08_replication_fc", {"resnet20_width": 0.0}),
        ("08_replication_fc", {"fc_search_trials": 0}),
        ("09_mobilenet_tuning", {"search_width": -1.0}),
        ("09_mobilenet_tuning", {"mobilenet_search_epochs": 0}),
        ("10_where_zeros_come_from", {"structural_images": 0}),
        ("12_beyond_relu", {"pool_images": 0}),
        ("12_beyond_relu", {"relu6_hidden_sizes": []}),
        ("12_beyond_relu", {"kink_epochs": [0]}),
    ],
)
def test_nothing_is_swept_for_before_every_value_is_checked(name, wrong, monkeypatch):
    def sweep(*_, **__):
        raise AssertionError("swept")

    monkeypatch.setattr(records, "sweep", sweep)
    values = yaml.safe_load((PROFILES / "report.yaml").read_text())
    with pytest.raises(RuntimeError, match=r"cannot say its cells: \d validation error"):
        plan._asked(notebook.NOTEBOOKS / f"{name}.ipynb", values | wrong)


def test_what_a_parameter_may_be_is_said_of_parameters_alone(declared):
    assert parameters.NARROWER.keys() <= set().union(*declared.values())


@pytest.mark.parametrize("profile", ["quick", "report", "paper"])
@pytest.mark.parametrize("path", paths(), ids=lambda p: p.stem)
def test_every_page_takes_every_profile(path, profile):
    values = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())
    Page(path.stem, defaults(path.stem) | values)


def code_cells(path):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def defaults(name):
    """The values of a page's parameters as they stand in its file."""
    namespace = {}
    exec(code_cells(notebook.NOTEBOOKS / f"{name}.ipynb")[0].source, namespace)
    return {n: v for n, v in namespace.items() if not n.startswith("__")}


def defined(cells):
    """Names that cells define for all that follow: imports, functions, variables."""
    namespace = set()
    for cell in cells:
        table = symtable.symtable(cell.source, "cell", "exec")
        symbols = table.get_symbols()
        namespace |= {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    return namespace


@pytest.mark.parametrize("path", paths(), ids=lambda p: p.stem)
def test_the_cell_of_the_page_can_be_run_again(path):
    first, second, *others = code_cells(path)
    namespace = {"__name__": "__main__"}
    exec(first.source, namespace)
    # Python 3.14 keeps no such global; what IPython leaves of earlier cells differs too.
    namespace.pop("__annotations__", None)
    exec(second.source, namespace)
    assert "page" in defined([second])
    own = defined(others)
    assert not own & parameters.declared(path).keys()  # else a second run would check another value
    namespace |= dict.fromkeys(own - namespace.keys(), "of a later cell")
    exec(second.source, namespace)
    namespace["store"] = 3
    with pytest.raises(ValueError, match="store=3"):
        exec(second.source, namespace)


def test_before_its_page_a_notebook_has_parameters_alone():
    values = defaults("05_zero_calls")
    with pytest.raises(ValueError, match="unknown parameter zero_depth"):
        Page("05_zero_calls", values | {"zero_depth": [1]})
    Page("05_zero_calls", values | {"zero_depth": [1], "page": Page("05_zero_calls", values)})


def test_declared_parameters_have_their_types(declared):
    found = parameters.declared(notebook.NOTEBOOKS / "04_mitigation.ipynb")
    assert found.keys() == declared["04_mitigation"].keys()
    assert found["normalised"] == list[str]
    assert found["epochs_at_most"] == dict[str, int]
    code = "# Parameters\nn: int = 3\nnames: list[str] = []  # many\nplain = 4\n"
    assert parameters.annotated(code) == {"n": int, "names": list[str]}


def test_no_code_reads_annotations_as_a_global():
    """Python 3.14 has none until a module asks another way: see PEP 749."""
    files = [*(records.REPOSITORY / "reluprime").rglob("*.py"), *paths()]
    code = [c.source for path in files if path.suffix == ".ipynb" for c in code_cells(path)] + [
        path.read_text() for path in files if path.suffix == ".py"
    ]
    names = (node for text in code for node in ast.walk(ast.parse(text)))
    assert not [n for n in names if isinstance(n, ast.Name) and n.id == "__annotations__"]


def test_a_profile_serves_notebooks_that_lack_some_of_its_names():
    quick = yaml.safe_load((PROFILES / "quick.yaml").read_text())
    given = GOOD | {"profile": "quick", "epochs": quick["epochs"]}
    check_parameters(given, ANNOTATIONS)
    with pytest.raises(ValueError, match="unknown parameter epochs"):
        check_parameters(given | {"epochs": quick["epochs"] + 1}, ANNOTATIONS)


@pytest.fixture(scope="module")
def declared():
    return {path.stem: papermill.inspect_notebook(str(path)) for path in paths()}


def test_every_parameter_has_a_type_and_a_comment(declared):
    for own in declared.values():
        for parameter in own.values():
            assert parameter["inferred_type_name"] != "None"
            assert parameter["help"]


def test_the_report_profile_is_the_defaults(declared):
    report = yaml.safe_load((PROFILES / "report.yaml").read_text())
    defaults = {
        name: yaml.safe_load(parameter["default"].replace("_", ""))
        if parameter["inferred_type_name"] == "int"
        else yaml.safe_load(parameter["default"])
        for own in declared.values()
        for name, parameter in own.items()
    }
    assert {name: defaults[name] for name in report} == report


@pytest.mark.parametrize("profile", ["quick", "report", "paper"])
def test_every_name_of_a_profile_is_a_parameter(declared, profile):
    names = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text()).keys()
    assert names <= set().union(*declared.values())


def test_quick_runs_keep_their_records_apart():
    quick = yaml.safe_load((PROFILES / "quick.yaml").read_text())
    assert quick["store"].startswith("_build/")
    assert quick["dataset"] == "mnist-5k"


def test_committed_notebooks_are_executed_and_carry_no_times_or_paths():
    for path in paths():
        text = path.read_text()
        assert str(records.REPOSITORY) not in text
        stored = nbformat.reads(text, 4)
        assert "papermill" not in stored.metadata
        counts = [c.execution_count for c in stored.cells if c.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        assert not any(
            output.get("name") == "stderr" or output.output_type == "error"
            for cell in stored.cells
            if cell.cell_type == "code"
            for output in cell.outputs
        )


SOURCE = re.compile(r'<details class="source">.*</details>', re.DOTALL)


def outputs(path):
    """What the code cells of a notebook display, in order, by kind of data."""
    return [
        output.data
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]


def sources(path):
    texts = [data.get("text/html", "") for data in outputs(path)]
    return [text for text in texts if SOURCE.match(text)]


@pytest.mark.parametrize("path", paths(), ids=lambda p: p.stem)
def test_every_figure_and_table_says_where_it_is_from(path):
    shown = [data for data in outputs(path) if "image/png" in data or "text/html" in data]
    for data, following in zip(shown, [*shown[1:], {}], strict=True):
        if not SOURCE.match(data.get("text/html", "")):
            assert SOURCE.match(following.get("text/html", ""))


@pytest.mark.parametrize("path", paths(), ids=lambda p: p.stem)
def test_the_command_of_every_result_exists_and_parses(path, declared):
    (script,) = entry_points(group="console_scripts", name="papermill")
    cli = script.load()
    commands = {re.search("<code>(.*)</code>", source)[1] for source in sources(path)}
    assert commands or path.stem == "07_imagenet"
    for command in commands:
        program, *words = shlex.split(html.unescape(command))
        assert program == "papermill"
        given = cli.make_context("papermill", words).params
        assert given["notebook_path"] == f"notebooks/{path.name}"
        assert (records.REPOSITORY / given["notebook_path"]).exists()
        names = {name for name, _ in given["parameters"]}
        names |= {name for text in given["parameters_yaml"] for name in yaml.safe_load(text)}
        assert names <= declared[path.stem].keys()
        assert all((records.REPOSITORY / file).exists() for file in given["parameters_file"])


def test_the_records_of_every_result_are_in_the_store():
    keys = {
        key
        for file in (records.REPOSITORY / "records").glob("*.jsonl")
        for key in records.Store("records").read(file.stem)
    }
    for path in paths():
        for source in sources(path):
            found = re.findall("<dt>keys</dt><dd>(.*?)</dd>", source)
            numbers = [int(n) for n in re.findall(r"<dt>records</dt><dd>(\d+)</dd>", source)]
            assert [len(own.split()) for own in found] == numbers
            assert set(" ".join(found).split()) <= keys


def test_a_command_names_the_parameters_that_differ(declared):
    usual = {n: yaml.safe_load(p["default"]) for n, p in declared["05_zero_calls"].items()}
    page = Page("05_zero_calls", usual)
    assert page.command == "papermill notebooks/05_zero_calls.ipynb out.ipynb -p store _build/again"
    quick = yaml.safe_load((PROFILES / "quick.yaml").read_text())
    changed = usual | {n: quick[n] for n in usual.keys() & quick} | {"zero_depths": [2, 4]}
    words = shlex.split(Page("05_zero_calls", changed).command)
    assert words[3:5] == ["-f", "notebooks/profiles/quick.yaml"]
    assert yaml.safe_load(words[words.index("-y") + 1]) == {"zero_depths": [2, 4]}
    assert words.count("-y") == 1


def test_a_page_that_computes_nothing_reads_the_records_that_it_read():
    values = {"profile": "report", "store": "records"}
    page = Page("00_scorecard", values)
    assert page.command == "papermill notebooks/00_scorecard.ipynb out.ipynb"
    page = Page("00_scorecard", values | {"store": "mine"})
    assert page.command.endswith("out.ipynb -p store mine")


def test_every_claim_links_to_a_heading_of_its_notebook():
    for claim in claims.CLAIMS:
        name, _, heading = claim.figure.partition("#")
        cells = nbformat.read(notebook.NOTEBOOKS / f"{name}.ipynb", 4).cells
        titles = re.findall("^#+ (.*)$", "\n".join(c.source for c in cells), re.MULTILINE)
        slugs = {re.sub("[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles}
        assert heading in slugs


def test_a_table_escapes_texts_and_links_figures():
    frame = pd.DataFrame([{"id": "P1", "value": "a < b", "n": 3, "figure": "01_x#the-figure"}])
    text = as_html(frame, notebooks="notebooks/").data
    assert "a &lt; b" in text
    assert '<a href="notebooks/01_x.html#the-figure">' in text


def run_papermill(notebook_name, out, *arguments):
    """The command of the README; warnings of other packages are not our subject here."""
    command = [sys.executable, "-W", "ignore", "-m", "papermill", "--log-level", "ERROR"]
    source = records.REPOSITORY / "notebooks" / notebook_name
    return subprocess.run(
        [*command, str(source), str(out), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "n_network", "20"), "unknown parameter n_network"),
        (("-p", "n_networks", "many"), "n_networks='many'"),
        (("-p", "dataset", "imagenet"), "dataset"),
        (("-y", "{precisions: [fp8]}"), "precision"),
        (("-p", "n_networks", "0"), "n_networks"),
        (("-p", "compute", "perhaps"), "compute='perhaps'"),
    ],
)
def test_a_wrong_parameter_stops_papermill_before_any_compute(tmp_path, arguments, message):
    store = tmp_path / "store"
    arguments = ("-p", "store", str(store), "-p", "dataset", "mnist-5k", *arguments)
    done = run_papermill("02_relative_volume.ipynb", tmp_path / "out.ipynb", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert not store.exists()


def test_the_command_of_the_readme_works(tmp_path):
    out = tmp_path / "out.ipynb"
    small = ("-p", "n_networks", "3", "-y", "{precisions: [fp32, fp16]}")
    given = ("-p", "dataset", "mnist-5k", "-p", "store", str(tmp_path / "store"), *small)
    done = run_papermill("02_relative_volume.ipynb", out, *given)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "store" / "volume.estimate.jsonl").read_text().splitlines()
    configs = [json.loads(line)["config"] for line in lines]
    assert {c["precision"] for c in configs} == {"fp32", "fp16"}
    assert {c["n_networks"] for c in configs} == {3}


def test_imagenets_page_trains_on_any_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path / "checkpoints"))
    random = np.random.RandomState(0)
    for split, each in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = random.randint(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    small = {"imagenet_width": "0.0625", "imagenet_epochs": "1", "imagenet_seeds": "1"}
    given = {"image_folder": str(tmp_path / "images"), "store": str(tmp_path / "store")} | small
    arguments = [word for name, value in given.items() for word in ("-p", name, value)]
    done = run_papermill("07_imagenet.ipynb", tmp_path / "out.ipynb", *arguments)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "store" / "training.fit.jsonl").read_text().splitlines()
    arms = {(c["s"], c["gradient_rule"]) for c in (json.loads(line)["config"] for line in lines)}
    assert arms == {(0.0, "chain"), (1.0, "chain"), (1.0, "injected")}
    assert str(tmp_path) not in "".join(lines)
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    kinds = {k for c in executed.cells for o in c.get("outputs", []) for k in o.get("data", {})}
    assert {"image/png", "text/html"} <= kinds


def test_missing_data_with_no_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(tmp_path / "nothing"))
    given = ("-p", "store", str(tmp_path / "store"), "-p", "n_networks", "1")
    done = run_papermill("02_relative_volume.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert "reluprime data mnist" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--profile", "slow"], ["-p", "n_network", "3"], ["--page", "99"]]
)
def test_the_runner_refuses_what_it_does_not_know(tmp_path, arguments):
    assert main(["run", str(tmp_path), *arguments]) == 2
    assert not list(tmp_path.iterdir())


def test_a_failing_notebook_fails_the_runner_and_spoils_no_copy(tmp_path, capsys):
    good = tmp_path / "01_bifurcation_event.ipynb"
    good.write_text("an earlier good copy")
    status = main(["run", str(tmp_path), "-p", "compute", "perhaps", "--store", str(tmp_path)])
    assert status == 1
    assert "compute='perhaps'" in capsys.readouterr().err
    assert good.read_text() == "an earlier good copy"
    assert list(tmp_path.glob(".*.ipynb")) == []
