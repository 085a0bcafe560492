"""Graphs by name, orders and cycles, tiers and what structures allow."""

import builtins
import itertools

import networkx as nx
import pytest
import torch

from mdlm_core.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    UnknownNameError,
    UsageError,
)
from mdlm_personality.causal.graph import Edge, Graph, place, read_edges
from mdlm_personality.causal.order import (
    check_acyclic,
    find_cycle,
    levels,
    topological_order,
)
from mdlm_personality.causal.tiers import (
    mask_for,
    node_names,
    observed_nodes,
    tier_of,
    tiered_mask,
)
from mdlm_personality.config import PersonalityDiTConfig
from mdlm_personality.traits import TRAITS

NAMES = (*TRAITS, "wellness", "exer")


def random_mask(seed, nodes=8, share=0.2):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(nodes, nodes, generator=generator) < share
    return mask.fill_diagonal_(False)


def as_networkx(mask):
    return nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)


# ---- orders and cycles --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_orders_and_cycles_are_networkx(seed):
    mask = random_mask(seed)
    graph = as_networkx(mask)
    cycle = find_cycle(mask)
    if nx.is_directed_acyclic_graph(graph):
        assert cycle == ()
        check_acyclic(mask)
        generations = list(nx.topological_generations(graph))
        level = levels(mask)
        for number, nodes in enumerate(generations):
            assert sorted(nodes) == (level == number).nonzero()[:, 0].tolist()
        place_of = topological_order(mask).argsort()
        assert all(place_of[i] < place_of[j] for i, j in graph.edges)
    else:
        assert levels(mask) is topological_order(mask) is None
        assert all(
            mask[i, j] for i, j in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        )
        assert len(set(cycle)) == len(cycle) > 1
        with pytest.raises(UsageError, match="has the cycle"):
            check_acyclic(mask)


def test_both_kinds_of_graphs_are_tried():
    kinds = {
        nx.is_directed_acyclic_graph(as_networkx(random_mask(s))) for s in range(20)
    }
    assert kinds == {True, False}


def test_a_cycle_is_named():
    edges = read_edges(["wellness -> exer", "exer -> n", "n -> wellness", "o -> exer"])
    with pytest.raises(UsageError) as error:
        Graph.of(NAMES, edges)
    named = str(error.value).split("the cycle ")[1].split(";")[0].split(" -> ")
    assert named[0] == named[-1]
    assert set(named) == {"wellness", "exer", "neuroticism"}
    for parent, child in itertools.pairwise(named):
        assert (parent, child) in {
            ("wellness", "exer"), ("exer", "neuroticism"), ("neuroticism", "wellness")
        }  # fmt: skip


def test_a_node_is_not_its_own_cause():
    with pytest.raises(UsageError, match="the cycle exer -> exer"):
        Graph.of(NAMES, read_edges("exer -> exer"))


# ---- reading ------------------------------------------------------------------------

CHAIN = [Edge("a", "b"), Edge("b", "c")]
HALF = {"weight": 0.5}
WEIGHTED = [Edge("a", "b", 0.5), Edge("b", "c", -1.0)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (["a -> b", "b->c"], CHAIN),
        ("a -> b -> c", CHAIN),
        ("a -> b\n\n# a remark\nb -> c  # another\n", CHAIN),
        ("a,b,0.5\nb,c,-1", WEIGHTED),
        ("parent,child,weight\na,b,0.5\nb,c,-1", WEIGHTED),
        ("a\tb\t0.5\nb\tc\t-1", WEIGHTED),
        ("a -> b: 0.5\nb -> c, -1", WEIGHTED),
        ("a,b,\nb,c", CHAIN),
        ('"a" -> "b";\nb -> c;', CHAIN),
        ((), []),
        (nx.DiGraph([("a", "b"), ("b", "c")]), CHAIN),
        (
            nx.DiGraph([("a", "b", {"weight": 0.5}), ("b", "c", {"weight": -1})]),
            WEIGHTED,
        ),
    ],
)
def test_forms_of_edges(source, expected):
    assert read_edges(source) == expected


@pytest.mark.parametrize("name", ["graph.txt", "graph.csv", "graph.edges"])
def test_files_of_edges(tmp_path, name):
    path = tmp_path / name
    path.write_text("# causes\na,b,0.5\nb,c,-1\n", encoding="utf-8")
    assert read_edges(path) == read_edges([str(path)]) == read_edges(str(path))
    assert read_edges(path) == WEIGHTED


def test_dot_files(tmp_path):
    pytest.importorskip("pydot", reason="pydot is not installed")
    path = tmp_path / "graph.dot"
    path.write_text('digraph g { a -> b [weight=0.5]; "b" -> c [label="-1"]; d; }')
    assert read_edges(path) == WEIGHTED
    path.write_text("graph g { a -- b; }")
    with pytest.raises(DataError, match="undirected"):
        read_edges(path)
    path.write_text("digraph { a -> ")
    with pytest.raises(DataError, match="no DOT file"):
        read_edges(path)


def test_dot_files_need_pydot(tmp_path, monkeypatch):
    path = tmp_path / "graph.gv"
    path.write_text("digraph { a -> b }")
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "pydot":
            raise ImportError
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"mdlm-personality\[dot\]"):
        read_edges(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is no edge; write cause -> effect"),
        ("a ->", "is no edge"),
        ("a -> -> b", "is no edge"),
        ("a,b,c,d", "is no edge"),
        ("a,b,much", "the weight 'much', which is no number"),
        ("a,b,nan", "the weight 'nan'"),
    ],
)
def test_what_is_no_edge(text, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read_edges([text])
    path = tmp_path / "graph.txt"
    path.write_text(f"x -> y\n{text}\n")
    with pytest.raises(DataError, match=r"graph\.txt, line 2"):
        read_edges(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_edges(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="has no edge"):
        read_edges(tmp_path / "empty.txt")
    with pytest.raises(UsageError, match="undirected"):
        read_edges(nx.Graph([("a", "b")]))


# ---- graphs -------------------------------------------------------------------------


def test_a_graph_by_name():
    graph = Graph.of(NAMES, read_edges(["e -> wellness -> exer", "neuroticism->exer"]))
    assert graph.mask.sum() == 3
    assert graph.mask[2, 5]
    assert graph.mask[5, 6]
    assert graph.mask[4, 6]
    order = graph.order()
    assert sorted(order) == sorted(NAMES)
    assert order.index("extraversion") < order.index("wellness") < order.index("exer")
    weights = torch.arange(49.0).reshape(7, 7)
    assert Edge("extraversion", "wellness", 19.0) in graph.edges(weights)
    assert [str(edge) for edge in graph.edges()][-1] == "wellness -> exer"


def test_names_that_are_none():
    with pytest.raises(UnknownNameError, match="Did you mean 'wellness'"):
        Graph.of(NAMES, read_edges("e -> welness"))
    with pytest.raises(UsageError, match="there twice"):
        Graph.of(NAMES, read_edges(["e -> exer", "extraversion -> exer"]))
    with pytest.raises(UnknownNameError, match="no node of the graph, which has a, b"):
        place(["a", "b"], "e")
    assert place(["e", "b"], "e") == 0  # its own name comes first


# ---- tiers --------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [20, 64])
def test_tiers_and_the_edges_between_them(nodes):
    tiers = [tier_of(node, nodes) for node in range(nodes)]
    order = ["personality", "beliefs", "intentions", "actions"]
    assert [tiers.count(tier) for tier in order] == [nodes // 4] * 4
    mask = tiered_mask(nodes)
    assert mask.sum() == 6 * (nodes // 4) ** 2
    for i in range(nodes):
        for j in range(nodes):
            assert mask[i, j] == (order.index(tiers[i]) < order.index(tiers[j]))
    assert levels(mask) is not None


def test_names_of_nodes():
    names = node_names(
        64, {"wellness": "beliefs", "exer": "actions", "smoke": "actions"}
    )
    assert names[:6] == (*TRAITS, "personality.5")
    assert names[16:18] == ("wellness", "beliefs.1")
    assert names[48:51] == ("exer", "smoke", "actions.2")
    assert len(set(names)) == 64
    labels = {"wellness": "beliefs", "age": "personality", "exer": "actions"}
    names = node_names(24, labels)
    assert observed_nodes(names, labels) == (0, 1, 2, 3, 4, 6, 5, 18)


def test_labels_that_find_no_node():
    labels = {f"label{i}": "beliefs" for i in range(6)}
    with pytest.raises(ConfigError, match="'label5' finds no node in the tier beliefs"):
        node_names(20, labels)
    with pytest.raises(ConfigError, match="no node in the tier personality"):
        node_names(20, {"age": "personality"})
    with pytest.raises(ConfigError, match="called as another node"):
        node_names(64, {"openness": "beliefs"})


LABELS = {"wellness": "beliefs", "exer": "actions"}


def masks(structure, edges=()):
    names = node_names(64, LABELS)
    seen = observed_nodes(names, LABELS)
    return names, seen, mask_for(structure, names, observed=seen, edges=edges)


def test_tiered_lets_no_latent_node_cause_what_is_observed():
    names, seen, mask = masks("tiered")
    latent = [i for i in range(64) if i not in seen]
    assert not mask[latent][:, list(seen)].any()
    plain = tiered_mask(64)
    assert torch.equal(mask[list(seen)], plain[list(seen)])
    assert torch.equal(mask[:, latent], plain[:, latent])
    assert mask[2, names.index("wellness")]
    assert mask[names.index("wellness"), names.index("exer")]


def test_without_labels_every_tiered_edge_is_there():
    names = node_names(64)
    mask = mask_for("tiered", names, observed=observed_nodes(names))
    assert torch.equal(mask, tiered_mask(64))
    assert mask.sum() == 1536


@pytest.mark.parametrize("structure", ["dagma", "notears"])
def test_searches_add_pairs_of_observed_nodes_of_one_tier(structure):
    _, _, tiered = masks("tiered")
    _, _, mask = masks(structure)
    added = mask & ~tiered
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[:5, :5] = True
    assert torch.equal(added, expected.fill_diagonal_(False))
    assert levels(mask) is None


def test_fixed_has_the_edges_that_are_given():
    edges = ("e -> wellness", "wellness -> exer", "o -> beliefs.3")
    names, _, mask = masks("fixed", edges)
    found = {(names[i], names[j]) for i, j in mask.nonzero().tolist()}
    assert found == {
        ("extraversion", "wellness"),
        ("wellness", "exer"),
        ("openness", "beliefs.3"),
    }
    with pytest.raises(UsageError, match="the cycle"):
        masks("fixed", (*edges, "exer -> wellness"))


def test_settings_and_layer_agree_on_names():
    config = PersonalityDiTConfig(labels=LABELS)
    assert len(node_names(config.latent_dim, config.labels)) == config.latent_dim
