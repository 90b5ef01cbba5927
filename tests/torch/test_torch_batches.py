import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from failguard.core.facts import Facts, ModelFacts
from failguard.core.label_counts import class_prior_entropy
from failguard.torch.batches import BatchReader, batch_size, non_finite_part, non_finite_rows, split, tensors

pytestmark = pytest.mark.framework


@dataclass
class Graph:
    nodes: torch.Tensor
    name: str = "g"


X, Y = torch.zeros(4, 3), torch.tensor([0, 1, 1, 2])


@pytest.mark.parametrize(
    "batch", [X, (X, Y), [X, Y], {"input_ids": X, "labels": Y}, ({"a": X}, Y), Graph(X), (X, X, Y), [[X], Y]]
)
def test_a_batch_of_any_structure_has_a_size(batch):
    assert batch_size(batch) == 4
    assert next(tensors(batch)) is X


def test_things_without_tensors_have_none():
    assert batch_size("text") is None
    assert list(tensors({"path": "a", "n": 3})) == []
    circle: list = []
    circle.append(circle)
    assert list(tensors(circle)) == []


def test_targets_are_found_by_the_usual_conventions():
    assert split((X, Y))[1] is Y
    assert split({"x": X, "labels": Y}) == ({"x": X}, Y)
    assert split(X) == (X, None)
    inputs, target = split((X, X, Y))
    assert target is Y
    assert len(inputs) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_values_are_told_apart(bad):
    hurt = X.clone()
    hurt[1, 1] = bad
    assert non_finite_part((X, Y)) is None
    assert non_finite_part((hurt, Y)) == "input"
    assert non_finite_part((X, hurt)) == "target"
    assert non_finite_part({"x": hurt, "y": Y}) == "input"


def reader(trivial_from=("class_prior",), width=None, check_data=True):
    facts = Facts(model=ModelFacts(output_width=width))
    r = BatchReader(facts, check_data=check_data)
    r.trivial_from = trivial_from
    return r, facts


def test_class_counts_give_the_loss_of_a_constant_predictor():
    r, facts = reader()
    for step in range(3):
        r.read((X, Y), step, 0)
    assert facts.batch_size == 4
    assert facts.target_kind == "classes"
    assert facts.class_counts == {0: 3, 1: 6, 2: 3}
    assert facts.trivial_loss == pytest.approx(1.5 * math.log(2))
    assert facts.trivial_loss_source == "class_prior"


def test_it_is_not_invented_for_a_loss_that_is_no_cross_entropy():
    r, facts = reader(trivial_from=())
    r.read((X, Y), 0, 0)
    assert facts.class_counts
    assert facts.trivial_loss is None


def test_a_vocabulary_is_not_counted():
    r, facts = reader(trivial_from=("class_prior", "output_width"), width=50_000)
    r.read({"input_ids": X, "labels": torch.tensor([[40_000, -100]])}, 0, 0)
    r.weigh_trivial_loss()
    assert facts.class_counts == {}
    assert facts.trivial_loss == pytest.approx(math.log(50_000))
    assert facts.trivial_loss_source == "output_width"


def test_ignored_targets_are_not_classes():
    r, facts = reader()
    r.read((X, torch.tensor([0, -100, 1, 1])), 0, 0)
    assert facts.class_counts == {0: 1, 1: 2}


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (torch.tensor([0.0, 1.0, 1.0, 0.0]), "classes"),
        (torch.tensor([[0.0], [1.0], [1.0], [0.0]]), "classes"),
        (torch.tensor([0.5, 1.0, 2.0, 3.0]), "continuous"),
        (torch.eye(4), "continuous"),  # several columns: no single prior
    ],
)
def test_kinds_of_targets(target, kind):
    r, facts = reader()
    r.read((X, target), 0, 0)
    assert facts.target_kind == kind


def test_a_target_that_turns_out_continuous_loses_its_counts():
    r, facts = reader()
    r.read((X, torch.tensor([0.0, 1.0, 1.0, 0.0])), 0, 0)
    r.read((X, torch.tensor([0.3, 1.0, 1.0, 0.0])), 1, 0)
    assert facts.target_kind == "continuous"
    assert facts.class_counts == {}


def test_bad_batches_are_named_whenever_they_are_read_and_only_if_asked():
    hurt = X.clone()
    hurt[2, 1] = math.nan
    r, _ = reader()
    assert r.read((X, Y), 0, 0) == []
    (finding,) = r.read((hurt, Y), 40, 3)
    assert (finding.code, finding.where.tensor, finding.where.batch) == ("data.non_finite", "input", 40)
    assert finding.where.rows == (2,)
    assert finding.evidence["non_finite_values"] == 1
    assert r.read((hurt, Y), 72, 3) == []  # it was said
    assert reader(check_data=False)[0].read((hurt, Y), 0, 0) == []


def steps_read(r, steps=5000):
    read = []
    for step in range(steps):
        if step >= r.next_at:
            r.read((X, Y), step, 0)
            read.append(step)
    return read


def test_reading_thins_out_and_goes_on_to_the_end_only_to_check():
    r, facts = reader()
    read = steps_read(r)
    assert read[:16] == list(range(16))
    assert min(b - a for a, b in itertools.pairwise(read[15:])) >= 32
    assert math.isfinite(r.next_at)
    assert sum(facts.class_counts.values()) <= 80 * len(Y)
    r, _ = reader(check_data=False)
    assert len(steps_read(r, 400_000)) == 80  # however far apart they come on this machine
    assert r.next_at == math.inf


def test_on_a_device_first_batches_then_flags_are_kept_until_the_epoch_ends():
    r, facts = reader()
    hurt = X.clone()
    hurt[3, 0] = -math.inf
    for step, x in enumerate((*[X + 1] * 20, hurt)):
        r._pace.begin(step)
        r._keep((x, Y), step, 0)
    assert [step for step, *_ in r._later] == [0, 1, 2]
    assert [(step, part) for step, _, part, _ in r._flags] == [(step, "input") for step in range(3, 21)]
    (finding,) = r.settle()
    assert (finding.code, finding.where.batch, finding.where.rows) == ("data.non_finite", 20, (3,))
    assert finding.message == "Batch 20: values of NaN or Inf in the input (row 3)."
    assert facts.class_counts == {0: 3, 1: 6, 2: 3}
    assert (facts.inputs.mean, facts.target.maximum) == (1.0, 2.0)
    assert not r._flags
    assert not r._later


def test_validation_rows_are_compared_with_those_of_training():
    r, facts = reader()
    x = torch.randn(200, 5)
    facts.train_samples = 200
    r.read((x, torch.zeros(200)), 0, 0)
    assert r.read_validation((x[:50], torch.zeros(50)))
    (finding,) = r.settle()
    assert (finding.code, finding.evidence["overlap"]) == ("data.leakage", 50)
    assert r.settle() == []
    assert not reader(check_data=False)[0].read_validation((x, None))


ODD = {
    "text": (["a", "b"], ["x", "y"]),
    "text beside numbers": ({"text": ["a"] * 4, "x": X}, Y),
    "masks": ((torch.rand(4, 1, 8, 8), torch.rand(4, 8, 8) > 0.5), torch.rand(4, 8, 8) > 0.5),
    "several inputs": {"ids": torch.ones(4, 9, dtype=torch.int32), "mask": torch.ones(4, 9), "labels": Y},
    "sparse": (torch.eye(4).to_sparse(), Y),
    "nested": ([torch.rand(2, 3), torch.rand(4, 3)], Y),
    "jagged": (torch.nested.nested_tensor([torch.rand(2, 3), torch.rand(1, 3)]), Y),
    "numbers": (torch.tensor(1.0), torch.tensor(2)),
    "empty": (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
    "no features": (torch.zeros(4, 0), Y),
    "complex": (torch.zeros(4, 3, dtype=torch.complex64), torch.zeros(4, dtype=torch.complex64)),
    "half": (torch.rand(4, 3).half(), torch.rand(4).bfloat16()),
    "large": (torch.rand(4, 3).double() * 1e300, torch.rand(4).double() * 1e300),
    "one class": (X, torch.zeros(4, dtype=torch.long)),
    "nothing": None,
    "other sizes": (torch.rand(7, 3), torch.rand(3, 2), torch.rand(5)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_batches_do_no_harm(name):
    r, _ = reader()
    for step in range(20):
        assert r.read(ODD[name], step, 0) == []
        r.read_validation(ODD[name])
    assert [f.code for f in r.settle()] in ([], ["data.leakage"])


def test_types_are_facts_and_images_of_8_bits_are_described():
    r, facts = reader()
    r.read((torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), Y), 0, 0)
    assert (facts.inputs.dtype, facts.target.dtype) == ("uint8", "int64")
    assert facts.inputs.maximum > 200
    r, facts = reader()
    r.read((X.double(), torch.zeros(4).double()), 0, 0)
    assert (facts.inputs.dtype, facts.target.dtype) == ("float64", "float64")


@pytest.mark.parametrize("part", ["input", "target"])
def test_rows_that_are_not_finite(part):
    hurt = torch.ones(8, 3, 2)
    hurt[[1, 6], 0, 1] = math.nan
    batch = (hurt, torch.ones(8)) if part == "input" else ({"a": torch.ones(8)}, hurt)
    assert non_finite_rows(batch, part) == (1, 6)
    assert non_finite_rows(batch, "target" if part == "input" else "input") == ()


def test_entropy():
    assert class_prior_entropy({0: 5, 1: 5}) == pytest.approx(math.log(2))
    assert class_prior_entropy({3: 5}) == 0.0


def test_sorted_labels_give_no_baseline():
    labels = torch.arange(10).repeat_interleave(100)
    r, facts = reader()
    for step, y in enumerate(labels.split(32)):
        r.read((torch.zeros(len(y), 3), y), step, 0)
    assert len(facts.class_counts) > 1
    assert facts.trivial_loss is None


@pytest.mark.parametrize("size", [1, 4, 32, 128])
@pytest.mark.parametrize("shares", [[1] * 10, [95, 5], [99, 1], [1] * 300], ids=["ten", "95:5", "99:1", "300 classes"])
def test_shuffled_labels_give_one_whatever_their_number_and_shares(size, shares):
    g = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor(shares, dtype=torch.float), 3000, replacement=True, generator=g)
    r, facts = reader()
    for step, y in enumerate(labels.split(size)):
        if step >= r.next_at:
            r.read((torch.zeros(len(y), 3), y), step, 0)
    assert (facts.trivial_loss is not None) == (len(facts.class_counts) > 1)
