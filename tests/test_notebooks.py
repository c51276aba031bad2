"""The notebooks' parameters and the runner, as a user meets them."""

import ast
import html
import json
import math
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
import torch
import yaml
from PIL import Image

from reluprime import records
from reluprime.cli import main
from reluprime.dose.claims import BY_DOSE
from reluprime.evidence.claim import DEVICES
from reluprime.evidence.panels import NARROW
from reluprime.instruments import data, precision
from reluprime.report import pages, run
from reluprime.report import scorecard as claims
from reluprime.report.page import Link, Page, as_html
from reluprime.report.pages import AS_REPORT, EVERY_PAGE, NOTEBOOKS, PAGES, PROFILES, RUN
from reluprime.training.study import fit
from reluprime.volume.claims import OURS
from reluprime.volume.study import estimate

# A value for each list of a page that is empty in the report.
EMPTY = {"families": ["data"], "precisions_vgg": ["fp64"], "normalised": ["vgg11"]}
SCALES = sorted(path.stem for path in PROFILES.glob("*.yaml"))
paths = pytest.mark.parametrize("path", [NOTEBOOKS / f"{name}.ipynb" for name in PAGES], ids=PAGES)


def defaults(name):
    """The values of a page's parameters as they stand in its model."""
    return dict(PAGES[name]())


def declared(path):
    """Names, defaults and comments in the cell of parameters, as papermill reads them."""
    return papermill.inspect_notebook(str(path))


def test_every_notebook_is_a_page():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(PAGES)


@paths
def test_a_notebook_says_the_parameters_of_its_model(path):
    cell = {n: ast.literal_eval(p["default"]) for n, p in declared(path).items()}
    assert cell == defaults(path.stem)


@paths
def test_every_parameter_has_a_type_and_a_comment(path):
    for parameter in declared(path).values():
        assert parameter["inferred_type_name"] != "None"
        assert parameter["help"]


@pytest.mark.parametrize("profile", SCALES)
@pytest.mark.parametrize("page", PAGES)
def test_a_profile_forgets_no_parameter(page, profile):
    """So that no page of a profile is run at the report's scale unless the profile says so."""
    said = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text()).get(page, {})
    same = said.pop(AS_REPORT, [])
    usual = defaults(page)
    assert sorted(n for n in [*said, *same] if n not in RUN) == sorted(usual.keys() - RUN)
    assert not [name for name, value in said.items() if value == usual[name]]


@pytest.mark.parametrize("profile", SCALES)
def test_a_profile_has_no_other_pages_or_parameters(profile):
    said = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())
    assert said.keys() <= {EVERY_PAGE, *PAGES}
    assert said[EVERY_PAGE].keys() <= RUN
    pages.values(profile, {})  # raises for a value that a page does not take


def test_good_parameters_pass_among_what_ipython_adds():
    given = {"_i1": "", "In": [], "get_ipython": None, "open": open, "n_networks": 20}
    page = Page("02_relative_volume", given)
    assert page.parameters.n_networks == 20


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("02_relative_volume", {"n_network": 20}, "unknown parameter n_network; choose from comp"),
        ("02_relative_volume", {"n_networks": "20"}, "n_networks='20': Input should be a valid"),
        ("02_relative_volume", {"n_networks": 2.5}, "n_networks=2.5"),
        ("02_relative_volume", {"n_networks": 0}, "n_networks=0"),
        ("02_relative_volume", {"small_networks": 0}, "small_networks=0"),
        ("02_relative_volume", {"dataset": "imagenet"}, "dataset='imagenet'"),
        ("02_relative_volume", {"precisions": "fp32"}, "precisions='fp32': Input should be a"),
        ("02_relative_volume", {"precisions": []}, "precisions=[]"),
        ("02_relative_volume", {"precisions": ["fp8"]}, "precisions.0='fp8'"),
        ("02_relative_volume", {"table_at_most": {"half": 9}}, "table_at_most.half"),
        ("02_relative_volume", {"table_at_most": {"fp16": "x"}}, "table_at_most.fp16='x'"),
        ("02_relative_volume", {"compute": "perhaps"}, "compute='perhaps'"),
        ("01_bifurcation_event", {"seeds": 0}, "seeds=0"),
        ("01_bifurcation_event", {"resolution": 1}, "resolution=1"),
        ("03_training_curves", {"mlp_s": [1.0, 10.0]}, "0 must be among them"),
        ("03_training_curves", {"tuned_seeds": -1}, "tuned_seeds=-1"),
        ("03_training_curves", {"search_epochs": 0}, "search_epochs=0"),
        ("03_training_curves", {"search_trials": 0}, "search_trials=0"),
        ("03_training_curves", {"conv_width": 0.0}, "conv_width=0.0"),
        ("04_mitigation", {"normalised": ["vgg"]}, "normalised.0='vgg'"),
        ("04_mitigation", {"epochs_at_most": {"fp61": 1}}, "epochs_at_most.fp61"),
        ("04_mitigation", {"seeds_at_most": {"fp16": 0}}, "seeds_at_most.fp16=0"),
        ("04_mitigation", {"precisions_mlp": ["fp8"]}, "precisions_mlp.0='fp8'"),
        ("04_mitigation", {"dropouts": [1.5]}, "dropouts.0=1.5"),
        ("04_mitigation", {"dropouts": [0.0]}, "dropouts.0=0.0"),
        ("04_mitigation", {"precisions_vgg": ["fp32"]}, "precisions_vgg.0='fp32'"),
        ("04_mitigation", {"adam_datasets": ["imagenet"]}, "adam_datasets.0='imagenet'"),
        ("05_zero_calls", {"zero_epochs": {"fp32": 0}}, "zero_epochs.fp32=0"),
        ("05_zero_calls", {"zero_epochs": {"fp32": 10**6}}, "zero_epochs.fp32=1000000"),
        ("16_trust", {"trust_seed": -1}, "trust_seed=-1"),
        ("16_trust", {"trust_seed": 2**64}, "trust_seed=18446744073709551616"),
        ("06_conv_volume", {"volume_batches": 0}, "volume_batches=0"),
        ("08_replication_fc", {"fc_precisions": ["fp16"]}, "fp32 and bf16 must be among them"),
        ("08_replication_fc", {"fc_epochs": 0}, "fc_epochs=0"),
        ("08_replication_fc", {"resnet20_width": 0.0}, "resnet20_width=0.0"),
        ("08_replication_fc", {"fc_search_trials": 0}, "fc_search_trials=0"),
        ("09_mobilenet_tuning", {"mobilenet_search_repeats": 0}, "mobilenet_search_repeats=0"),
        ("09_mobilenet_tuning", {"search_width": -1.0}, "search_width=-1.0"),
        ("10_where_zeros_come_from", {"form_networks": {"fp32": 1}}, "fp16 and bf16 must be"),
        ("10_where_zeros_come_from", {"structural_images": 0}, "structural_images=0"),
        ("12_beyond_relu", {"kink_epochs": []}, "kink_epochs=[]"),
        ("12_beyond_relu", {"kink_epochs": [0]}, "kink_epochs=[0]"),
        ("12_beyond_relu", {"kink_epochs": [10**18]}, "kink_epochs.0=1000000000000000000"),
        ("12_beyond_relu", {"relu6_hidden_sizes": []}, "relu6_hidden_sizes=[]"),
        ("14_how_many_kinks", {"dose_network": "lenet"}, "dose_network='lenet'"),
        ("14_how_many_kinks", {"dose_optimizer": "lion"}, "dose_optimizer='lion'"),
        ("14_how_many_kinks", {"dose_widths": [1e308]}, "dose_widths.0=1e+308"),
        ("14_how_many_kinks", {"dose_widths": [math.inf]}, "dose_widths.0=inf"),
        ("14_how_many_kinks", {"dose_s": [1e308]}, "dose_s.0=1e+308"),
        ("15_your_network", {"your_networks": ["resnet_18"]}, "your_networks.0='resnet_18'"),
        ("15_your_network", {"your_precisions": ["half"]}, "your_precisions.0='half'"),
    ],
)
def test_a_wrong_parameter_is_named(name, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Page(name, defaults(name) | wrong)


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (page, name)
        for page, kind in PAGES.items()
        for name, value in kind()
        if isinstance(value, list) and "hidden_sizes" not in name
    ],
)
def test_a_value_that_is_there_twice_is_named(page, name):
    accepted = getattr(PAGES[page](), name) or EMPTY[name]
    with pytest.raises(ValueError, match=rf"{name}=.* {accepted[0]}\S* must be there"):
        Page(page, defaults(page) | {name: [*accepted, accepted[0]]})


def test_hidden_layers_may_have_the_same_size_and_a_network_be_in_both_lists():
    Page("12_beyond_relu", defaults("12_beyond_relu") | {"relu6_hidden_sizes": [64, 64]})
    kind = PAGES["15_your_network"]
    once = kind(your_networks=["vgg11"], smooth_networks=[]).grids()
    assert kind(your_networks=["vgg11"], smooth_networks=["vgg11"]).grids() == once


def test_what_the_device_lacks_is_refused_before_another_study_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "best_device", lambda: torch.device("cpu"))
    name, few = "12_beyond_relu", {"zero_dataset": "mnist-5k", "kink_networks": 1}
    values = defaults(name) | few | {"store": str(tmp_path / "records")}
    values["pool_precisions"] = ["fp32", "tf32"]
    with pytest.raises(ValueError, match="precision='tf32' needs an NVIDIA GPU"):
        Page(name, values).sweep()
    assert not (tmp_path / "records").exists()
    with pytest.warns(UserWarning, match="missing"):
        Page(name, values | {"compute": "never"}).sweep()


def test_values_that_do_not_fit_together_are_refused_before_anything_is_computed():
    values = {"dose_network": "resnet18", "dose_dataset": "mnist", "dose_batch_norm": True}
    Page("14_how_many_kinks", defaults("14_how_many_kinks") | values)
    missing = {"image_folder": "/no/such/folder"}
    with pytest.raises(data.DataError, match="/no/such/folder"):
        Page("07_imagenet", defaults("07_imagenet") | missing)


def code_cells(path):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def defined(cells):
    """Names that cells define for all that follow: imports, functions, variables."""
    namespace = set()
    for cell in cells:
        table = symtable.symtable(cell.source, "cell", "exec")
        symbols = table.get_symbols()
        namespace |= {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    return namespace


@paths
def test_a_notebook_defines_no_functions(path):
    nodes = (node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source)))
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
    assert not [node for node in nodes if isinstance(node, kinds)]


@paths
def test_every_cell_of_code_is_folded_or_left_out_of_the_page(path):
    cells = nbformat.read(path, as_version=4).cells
    tags = [set(c["metadata"].get("tags", [])) for c in cells if c["cell_type"] == "code"]
    assert all(own & {"parameters", "hide-input", "remove-input"} for own in tags)


@paths
def test_the_cell_of_the_page_can_be_run_again(path):
    first, second, *others = code_cells(path)
    namespace = {"__name__": "__main__"}
    exec(first.source, namespace)
    # Python 3.14 keeps no such global; what IPython leaves of earlier cells differs too.
    namespace.pop("__annotations__", None)
    exec(second.source, namespace)
    assert "page" in defined([second])
    own = defined(others)
    assert not own & PAGES[path.stem].model_fields.keys()  # else a second run would check others
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


def test_no_code_reads_annotations_as_a_global():
    """Python 3.14 has none until a module asks another way: see PEP 749."""
    package = (records.REPOSITORY / "reluprime").rglob("*.py")
    code = [c.source for path in NOTEBOOKS.glob("*.ipynb") for c in code_cells(path)]
    code += [path.read_text() for path in package]
    names = (node for text in code for node in ast.walk(ast.parse(text)))
    assert not [n for n in names if isinstance(n, ast.Name) and n.id == "__annotations__"]


@pytest.mark.parametrize(
    ("name", "changes", "folder"),
    [
        ("05_zero_calls", {}, "records"),
        ("05_zero_calls", {"compute": "always", "max_seconds": 9}, "records"),
        ("05_zero_calls", {"zero_depths": [2]}, "_build/mine"),
        ("05_zero_calls", {"zero_depths": [2], "store": "records"}, "records"),
        ("13_speed_and_cost", {"planned": "quick"}, "records"),
    ],
)
def test_own_parameters_leave_the_committed_records_alone(name, changes, folder):
    page = Page(name, defaults(name) | changes)
    assert page.store.path == records.REPOSITORY / folder


def test_frames_of_a_page_are_by_name_and_can_be_joined(tmp_path):
    values = {"store": str(tmp_path), "compute": "never", "adam_datasets": ["cifar10", "svhn"]}
    page = Page("04_mitigation", defaults("04_mitigation") | values)
    with pytest.warns(UserWarning, match="cells of training.fit are missing"):
        cells = page.sweep()
    assert cells.keys() == page.parameters.grids().keys() > {"SGD", "vgg11, Adam, svhn"}
    assert pd.concat(cells.values()).attrs == {"study": "training.fit"}


def test_what_was_always_computed_is_what_a_page_shows(tmp_path):
    values = {"store": str(tmp_path), "dataset": "mnist-5k", "precisions": ["fp32"]}
    values |= dict.fromkeys(("n_networks", "variant_networks"), 1)
    values |= dict.fromkeys(("sweep_networks", "small_networks"), 1)
    name = "02_relative_volume"
    once = Page(name, defaults(name) | values).sweep()
    again = Page(name, defaults(name) | values | {"compute": "always"}).sweep()
    assert once.keys() == again.keys()
    for sweep, frame in again.items():
        last = list(records.Store(tmp_path).read(frame.attrs["study"]).values())
        shown = {row["key"]: row["provenance"] for row in frame.to_dict("records")}
        assert all(shown[r["key"]] == r["provenance"] for r in last if r["key"] in shown), sweep


def test_a_change_goes_to_each_page_that_has_the_parameter():
    found = pages.values("quick", {"norm_dataset": "cifar10"})
    assert [n for n, v in found.items() if v.get("norm_dataset") == "cifar10"] == [
        "10_where_zeros_come_from",
        "12_beyond_relu",
    ]
    with pytest.raises(ValueError, match="profile='slow'; choose one of"):
        pages.values("slow", {})
    with pytest.raises(ValueError, match="unknown parameter norm_datasets; choose from"):
        pages.values("quick", {"norm_datasets": "cifar10"})
    with pytest.raises(ValueError, match="no page's name starts with 99"):
        pages.values("quick", {}, ("99",))


def test_quick_runs_keep_their_records_apart():
    assert all(own["store"].startswith("_build/") for own in pages.values("quick", {}).values())


def test_committed_notebooks_are_executed_and_carry_no_times_or_paths():
    for path in NOTEBOOKS.glob("*.ipynb"):
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
SCALE = re.compile(r'<\w+ class="scale">')  # of the records whose sources stand below


def html_of(data):
    return data.get("text/html", "")


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
    texts = [html_of(data) for data in outputs(path)]
    return [text for text in texts if SOURCE.match(text)]


@paths
def test_every_figure_and_table_says_where_it_is_from(path):
    kinds = {"image/svg+xml", "image/png", "text/html"}
    shown = [own for own in outputs(path) if kinds & own.keys() and not SCALE.match(html_of(own))]
    for own, following in zip(shown, [*shown[1:], {}], strict=True):
        if not SOURCE.match(html_of(own)):
            assert SOURCE.match(html_of(following))


@paths
def test_every_figure_has_a_form_for_a_phone(path):
    cells = nbformat.read(path, 4).cells
    for output in (o for cell in cells for o in cell.get("outputs", ())):
        if "image/svg+xml" in output.get("data", {}):
            width = re.search(
                r'<svg [^>]*width="([\d.]+)pt"', output.metadata["image/svg+xml"]["narrow"]
            )
            assert float(width[1]) < 1.3 * 72 * NARROW  # words may reach out at the side


@paths
def test_the_command_of_every_result_exists_and_parses(path):
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
        assert names <= PAGES[path.stem].model_fields.keys()
        assert all((records.REPOSITORY / file).exists() for file in given["parameters_file"])


def test_the_records_of_every_result_are_in_the_store():
    keys = {
        key
        for file in (records.REPOSITORY / "records").glob("*.jsonl")
        for key in records.Store("records").read(file.stem)
    }
    for path in NOTEBOOKS.glob("*.ipynb"):
        for source in sources(path):
            found = re.findall("<dt>keys</dt><dd>(.*?)</dd>", source)
            numbers = [int(n) for n in re.findall(r"<dt>records</dt><dd>(\d+)</dd>", source)]
            assert [len(own.split()) for own in found] == numbers
            assert set(" ".join(found).split()) <= keys


def test_a_source_names_a_study_and_a_record_once():
    frame = records.table(estimate, records.Store("records"))
    other = records.table(fit, records.Store("records")).iloc[:2]
    page = Page("02_relative_volume", defaults("02_relative_volume"))
    text = page.source(frame[1:4], other, frame[:3], frame[:0]).data
    assert "Source: 4 records of volume.estimate and 2 records of training.fit<" in text
    of_first = re.findall("<dt>keys</dt><dd>(.*?)</dd>", text)[0].split()
    assert of_first == [*frame["key"][1:4], frame["key"][0]]
    assert "Source: no records<" in page.source(frame[:0]).data
    assert "Source: computed as" in page.source().data


def _displayed(action, *arguments):
    """What `action` displays as HTML."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reluprime.report.page.display", lambda *parts: shown.extend(parts))
        action(*arguments)
    return [part.data for part in shown]


def _grid_keys(*sentences):
    return {
        records.cell_key(cell.study, cell.config, device)
        for claim in sentences
        for cell in claim.cells()
        for device in DEVICES
    }


def test_the_source_of_claims_is_what_they_are_judged_on():
    """Not what else the page shows nor all records of a study; at the papers' dose too."""
    page = Page("03_training_curves", defaults("03_training_curves"))
    shown = _displayed(page.show_claims) + _displayed(page.show_verdicts, "P9", "P10")
    sources = [text for text in shown if 'class="source"' in text]
    keys = [set(re.search("<dt>keys</dt><dd>(.*?)</dd>", text)[1].split()) for text in sources]
    assert (
        keys[0]
        == keys[1]
        <= _grid_keys(*(own[name] for own in (claims.BY_ID, BY_DOSE) for name in ("P9", "P10")))
    )
    for name in ("P9", "P10"):
        assert len(keys[0] & _grid_keys(BY_DOSE[name])) > 20
    there = records.Store("records").read("training.fit").keys()
    assert keys[0] >= _grid_keys(claims.BY_ID["P10"]) & there


def test_the_source_leaves_out_a_machine_that_is_not_judged():
    """The CPU has some of the networks of A1 and A2; the GPU, which has all, is judged."""
    page = Page("20_published_zeros", defaults("20_published_zeros"))
    *_, text = _displayed(page.show_sentences, OURS, page.store)
    assert "NVIDIA" in text
    assert "AMD" not in text
    *_, text = _displayed(page.show_sentences, OURS, records.Store("no/such/store"))
    assert "Source: no records<" in text


def test_a_command_names_the_parameters_that_differ():
    page = Page("05_zero_calls", defaults("05_zero_calls"))
    again = "papermill notebooks/05_zero_calls.ipynb out.ipynb"
    assert page.source().data.count(f"<code>{again} -p store _build/again</code>") == 1
    changed = {"zero_depths": [2, 4], "compute": "always", "max_seconds": 3, "store": "mine"}
    text = Page("05_zero_calls", defaults("05_zero_calls") | changed).source().data
    words = shlex.split(html.unescape(re.search("<code>(.*)</code>", text)[1]))
    assert words[3] == "-y"
    assert yaml.safe_load(words[4]) == {"zero_depths": [2, 4]}
    assert words[5:] == ["-p", "store", "_build/again"]


@pytest.mark.parametrize(("store", "end"), [("", "out.ipynb<"), ("mine", "-p store mine<")])
def test_a_page_that_computes_nothing_reads_the_records_that_it_read(store, end):
    assert end in Page("00_scorecard", {"store": store}).source().data


def test_every_claim_links_to_a_heading_of_its_notebook():
    for claim in claims.CLAIMS:
        name, _, heading = claim.figure.partition("#")
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        titles = re.findall("^#+ (.*)$", "\n".join(c.source for c in cells), re.MULTILINE)
        slugs = {re.sub("[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles}
        assert heading in slugs


def test_a_table_escapes_texts_and_links_figures():
    frame = pd.DataFrame([{"id": "P1", "value": "a < b", "n": 3, "figure": "01_x#the-figure"}])
    text = as_html(frame).data
    assert "a &lt; b" in text
    odd = pd.DataFrame([{"<script>": 1, "b": ("<img>",), "c": ["<b>"], "d": {"<i>": 1}}])
    assert not {"<script>", "<img>", "<b>", "<i>"} & set(re.findall("<[a-z]+>", as_html(odd).data))
    assert '<a href="01_x.html#the-figure">' in text
    links = [Link("<b>", '"><script>'), (Link("<i>", "x"), Link("<b>", "y"))]
    link = as_html(pd.DataFrame({"a": links}))
    assert not {"<script>", "<b>", "<i>"} & set(re.findall("<[a-z]+>", link.data))


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("00_scorecard", "store"), ("07_imagenet", "store"), ("13_speed_and_cost", "planned")],
)
def test_a_page_escapes_the_values_of_its_parameters(name, parameter):
    """Also those of its records: a store that was sent may say anything of its device."""
    frame = records.table(estimate, records.Store("records")).iloc[:1]
    hostile = frame["provenance"].map(lambda how: how | {"device_name": "<img src=x>"})
    frame = frame.assign(provenance=hostile)
    page = Page(name, defaults(name) | {parameter: "'<script>alert(1)</script>"})
    text = page.source(frame).data
    assert not re.findall("<(?:script|img)", text)
    assert "&lt;img src=x&gt;" in text


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


@pytest.mark.parametrize("number", ["01", "02", "04", "06", "08", "10", "12"])
def test_a_page_that_cannot_be_shown_says_how_many_cells_are_missing(number, tmp_path):
    (name,) = (page for page in PAGES if page.startswith(number))
    given = ("-p", "store", str(tmp_path / "store"), "-p", "compute", "never")
    done = run_papermill(f"{name}.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert re.search(r"MissingCells: \d+ of \d+ cells of .* are missing in", done.stderr)
    assert "compute='missing'" in done.stderr


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
    assert {"image/svg+xml", "text/html"} <= kinds


def test_missing_data_with_no_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(tmp_path / "nothing"))
    given = ("-p", "store", str(tmp_path / "store"), "-p", "n_networks", "1")
    done = run_papermill("02_relative_volume.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert "reluprime data mnist" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "slow"],
        ["-p", "n_network", "3"],
        ["-p", "compute", "perhaps"],
        ["--page", "99"],
    ],
)
def test_the_runner_refuses_what_it_does_not_know(tmp_path, arguments):
    assert main(["run", str(tmp_path), *arguments]) == 2
    assert not list(tmp_path.iterdir())


def test_a_failing_notebook_fails_the_runner_and_spoils_no_copy(tmp_path, capsys, monkeypatch):
    good = tmp_path / "01_bifurcation_event.ipynb"
    good.write_text("an earlier good copy")
    monkeypatch.setenv("RELUPRIME_DATA", str(tmp_path / "nothing"))
    assert main(["run", str(tmp_path), "--page", "01", "--store", str(tmp_path / "store")]) == 1
    assert "reluprime data mnist" in capsys.readouterr().err
    assert good.read_text() == "an earlier good copy"
    assert list(tmp_path.glob(".*.ipynb")) == []


def test_the_picture_of_the_readme_is_that_of_its_page():
    notebook = nbformat.read(NOTEBOOKS / f"{run.PICTURE_PAGE}.ipynb", 4)
    for name in run.PICTURE_NAMES:
        assert (run.PICTURES / name).read_bytes() == run.picture(notebook, name)
