"""Classify texts by likelihood with mdlm-classify: docstrings of Python by topic.

What to look for: the model starts as naive Bayes and learns on from there; it says how
sure it is; each word's share in a decision is exact; and a topic that it never heard
of is added without forgetting the others.
"""

import numpy as np

from mdlm_classify import MDLMClassifier
from mdlm_classify.attribution import explain
from mdlm_classify.attribution_view import summary
from mdlm_classify.baselines import baseline
from mdlm_classify.data.docstrings import library_topics

SETTINGS = {"train.batch_size": 32, "task.sample_count": 0}
LATER = "gui"


def main() -> None:
    """Learn five topics, look at the decisions, then learn a sixth."""
    found = library_topics()
    texts, topics = np.array(found.texts), np.array(found.labels)
    order = np.random.default_rng(0).permutation(len(texts))[:1200]
    train, test = order[:900], order[900:]
    early = train[topics[train] != LATER]
    known = test[topics[test] != LATER]

    bayes = baseline("nb").fit(texts[early], topics[early])
    model = MDLMClassifier(length=96, epochs=3, settings=SETTINGS)
    model.fit(texts[early], topics[early])
    print(f"naive Bayes   {bayes.score(texts[known], topics[known]):.1%} right")
    print(f"MDLM          {model.score(texts[known], topics[known]):.1%} right")

    text = "Return the canonical name of the host, and a list of its addresses."
    for topic, p in zip(model.classes_, model.predict_proba([text])[0], strict=True):
        print(f"  {topic:12s} {p:.3f}")
    found = explain(model.model_, text)
    print(summary(found))
    shares = zip(found.words, found.by_word(), strict=True)
    strongest = sorted(shares, key=lambda pair: -abs(pair[1]))[:6]
    print("  " + ", ".join(f"{word.text} {nats:+.2f}" for word, nats in strongest))

    late = train[topics[train] == LATER]
    model.partial_fit(texts[late], topics[late])
    print(f"with '{LATER}'   {model.score(texts[test], topics[test]):.1%} right")


if __name__ == "__main__":
    main()
