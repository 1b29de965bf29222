"""Fits the constants of `famcli ask` (famcli/tasks/ask/ranking.py) on training splits and prints them.

    python -m benchmarks.ask_constants CORPUS [--model NAME] [--documents 6] [--questions 100] [--weighed 30]

Questions of FairytaleQA's train split and of SQuAD's training titles, their passages placed among books that are for
training. WEIGHTS: a softmax regression over each question's candidates. CONFIDENCE: a logistic regression of "the best
passage is the right one, and the question has an answer", with a third of the contexts left out and SQuAD's
unanswerable questions. _SENTENCE_WEIGHTS: a softmax regression over the sentences of the right passage. Recall is by
cross-validation over documents.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.qa_sets import (
    Rules,
    by_group,
    byte_spans,
    index_without_network,
    is_right,
    placed_documents,
    read_items,
)
from famcli.checkpoint.locate import resolve
from famcli.checkpoint.open import open_model
from famcli.evaluation.overlap import token_f1
from famcli.tasks.ask.best_sentence import sentence_features
from famcli.tasks.ask.likelihood import question_likelihoods
from famcli.tasks.ask.question import Question, term_shares
from famcli.tasks.ask.ranking import FEATURES, NUM_CANDIDATES, NUM_RERANKED, rank_passages, rerank

TOKENS = 100_000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One question.

    x [n, features] of its candidates, right [n]: whether each is of its context. kind: "answerable", "unanswerable", or
    "absent" where its context was left out. weighed: the network looked at the candidates. sentences: (features [s, k],
    right [s]) of its best right passage.
    """

    document: int
    subject: str
    kind: str
    weighed: bool
    x: Array
    right: Array
    sentences: tuple[Array, Array] | None

    @property
    def answered(self) -> bool:
        """Whether it has an answer that was placed."""
        return self.kind == "answerable"


def rows_of(
    corpus: Path, subject: str, documents: int, questions: int, weighed: int, model_name: str | None
) -> Iterator[Row]:
    path, rules = {
        "fairytaleqa": (corpus / "qa_fairytaleqa.jsonl.zst", Rules(where=(("split", ("train",)),))),
        "squad": (corpus / "qa_squad_dev.jsonl.zst", Rules(hash_below=205)),
    }[subject]
    model = open_model(resolve(model_name))
    groups = by_group(read_items(path, rules))
    placed = placed_documents(
        groups, [corpus / "books_train.jsonl.zst"], TOKENS, model.tokenizer, questions=200, absent=0.3, seed=1
    )
    rng = np.random.default_rng(2)
    for number, document in enumerate(itertools.islice(placed, documents)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "text.txt"
            file.write_bytes(document.text.encode())
            index = index_without_network(file)
        spans = byte_spans(document)
        drawn = rng.permutation(len(document.asked))[:questions]
        parsed = [Question.parse(document.asked[at].item.question) for at in drawn]
        found = [rank_passages(index, question) for question in parsed]
        pairs = [(at, one.passage.text) for at, some in enumerate(found[:weighed]) for one in some[:NUM_RERANKED]]
        gains = iter(question_likelihoods(model, [one.text for one in parsed], "on", pairs))
        found = [
            rerank(some, [next(gains) for _ in some[:NUM_RERANKED]]) if place < weighed else some
            for place, some in enumerate(found)
        ]
        for place, (at, question, some) in enumerate(zip(drawn, parsed, found, strict=True)):
            item = document.asked[at].item
            x = np.array([one.features for one in some]).reshape(len(some), len(FEATURES))
            right = np.array([is_right(one.passage.span, spans[at]) for one in some], dtype=float)
            kind = "absent" if not spans[at] else "answerable" if item.answers else "unanswerable"
            sentences = None
            if kind == "answerable" and right.any():
                best = some[int(np.flatnonzero(right)[0])]
                values = np.array(sentence_features(best, question, term_shares(question, index)))
                overlap = [max(token_f1(a, s.text, recall=True) for a in item.answers) for s in best.passage.sentences]
                sentences = values, (np.array(overlap) >= max(0.6, max(overlap))).astype(float)
            yield Row(number, subject, kind, place < weighed, x, right, sentences)
        index.close()


def fit_softmax(sets: list[tuple[Array, Array]], penalty: float = 1e-3) -> Array:
    """Weights w that maximize the mean log of the softmax share of the right ones among the rows of each set."""
    sets = [(x, right) for x, right in sets if 0 < right.sum() < len(right)]
    width = max(len(x) for x, _ in sets)
    x = torch.zeros(len(sets), width, sets[0][0].shape[1], dtype=torch.float64)
    mask, right = torch.full((len(sets), width), -torch.inf, dtype=torch.float64), torch.zeros(len(sets), width)
    for row, (values, flags) in enumerate(sets):
        x[row, : len(values)], right[row, : len(values)] = torch.tensor(values), torch.tensor(flags).float()
        mask[row, : len(values)] = 0
    weights = torch.zeros(x.shape[2], dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        log_p = torch.log_softmax(x @ weights + mask, 1)
        return -torch.logsumexp(log_p.masked_fill(right == 0, -torch.inf), 1).mean() + penalty * weights.square().sum()

    return _minimize(loss, weights)


def fit_logistic(x: Array, y: Array, penalty: float = 1e-3) -> Array:
    """Weights of the columns of x [n, k], the bias last."""
    inputs, targets = torch.tensor(np.column_stack([x, np.ones(len(x))])), torch.tensor(y)
    weights = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        found = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights, targets)
        return found + penalty * weights[:-1].square().sum()

    return _minimize(loss, weights)


def _minimize(loss: object, weights: torch.Tensor) -> Array:
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss()  # type: ignore[operator]
        value.backward()
        return value

    optimizer.step(step)
    found: Array = weights.detach().numpy()
    return found


def recall(rows: list[Row], weights: Array, k: int) -> Array:
    """Of each row: whether a right one is among the first k by `weights`."""
    orders = [np.argsort(-(row.x @ weights), kind="stable")[:k] for row in rows]
    return np.array([row.right[order].any() if len(order) else False for row, order in zip(rows, orders, strict=True)])


def print_recall(rows: list[Row], columns: list[int], name: str) -> None:
    """Recall by cross-validation over documents."""
    documents, hits = sorted({row.document for row in rows}), {1: list[float](), 5: list[float](), 10: list[float]()}
    for document in documents:
        kept = [(row.x[:, columns], row.right) for row in rows if row.document != document]
        weights = np.zeros(len(FEATURES))
        weights[columns] = fit_softmax(kept)
        for k, found in hits.items():
            found += recall([row for row in rows if row.document == document], weights, k).tolist()
    print(f"{name:28}" + "".join(f"  @{k} {np.mean(found):.3f}" for k, found in hits.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--weighed", type=int, default=30, help="questions of each document that the network weighs")
    options = parser.parse_args()
    rows = [
        row
        for subject in ("fairytaleqa", "squad")
        for row in rows_of(
            options.corpus, subject, options.documents, options.questions, options.weighed, options.model
        )
    ]
    report(rows)


def report(rows: list[Row]) -> None:
    """Print what was found, and the constants."""
    answered = [row for row in rows if row.answered and len(row.x)]
    everything = list(range(len(FEATURES)))
    weighed = [row for row in answered if row.weighed]
    print(f"{len(rows)} questions, {len(answered)} of them answered; of {NUM_CANDIDATES} candidates each")
    for subject in sorted({row.subject for row in rows}):
        print_recall([row for row in answered if row.subject == subject], [0], f"{subject}: words alone")
        print_recall([row for row in answered if row.subject == subject], everything[:-1], f"{subject}: without gain")
        some = [first_ones(row) for row in weighed if row.subject == subject]
        print_recall(some, everything[:-1], f"{subject}, weighed: without gain")
        print_recall(some, everything, f"{subject}, weighed: all")
    for left_out in everything[:-1]:
        print_recall(answered, [one for one in everything[:-1] if one != left_out], f"without {FEATURES[left_out]}")
    weights = fit_softmax([(row.x, row.right) for row in map(first_ones, answered)])
    print("WEIGHTS =", tuple(round(float(one), 2) for one in weights))
    print_confidence([first_ones(row) for row in rows if row.weighed and len(row.x)], weights)
    sentences = [row.sentences for row in answered if row.sentences is not None]
    print("_SENTENCE_WEIGHTS =", tuple(round(float(one), 2) for one in fit_softmax(sentences)))


def first_ones(row: Row) -> Row:
    """The candidates that the network weighs."""
    return replace(row, x=row.x[:NUM_RERANKED], right=row.right[:NUM_RERANKED])


def print_confidence(rows: list[Row], weights: Array) -> None:
    """The logistic regression on the best passage's signs (coverage, margin, lead), and what thresholds come to."""
    signs, right = list[list[float]](), list[float]()
    for row in rows:
        scores = row.x @ weights
        best = int(np.argmax(scores))
        others = np.delete(scores, best)
        margin = scores[best] - (others.max() if len(others) else 0.0)
        signs.append([row.x[best, 1], margin, scores[best] - scores.sum() / NUM_RERANKED])
        right.append(float(row.answered and row.right[best]))
    x = np.array(signs)
    fitted = fit_logistic(x, np.array(right))
    print("CONFIDENCE_WEIGHTS =", tuple(round(float(one), 2) for one in fitted[:-1]))
    print("CONFIDENCE_BIAS =", round(float(fitted[-1]), 2))
    confidence = 1 / (1 + np.exp(-(x @ fitted[:-1] + fitted[-1])))
    for low in np.arange(0, 1, 0.2):
        held = (confidence >= low) & (confidence < low + 0.2)
        if held.any():
            share = np.array(right)[held].mean()
            print(f"confidence {low:.1f} to {low + 0.2:.1f}: {held.sum()} questions, {share:.2f} of them right")
    kinds = np.array([row.kind for row in rows])
    for threshold in np.arange(0.1, 0.6, 0.05):
        silent = confidence < threshold
        shares = "; ".join(f"{kind} {silent[kinds == kind].mean():.3f}" for kind in np.unique(kinds))
        print(f"threshold {threshold:.2f}: share not found of {shares}")


if __name__ == "__main__":
    main()
