"""Which model answers a request: decided from its features, learnt from what came of earlier ones. Pure: no clock, no
randomness and no network but what is handed in.

content, text        what a request asks; its letters and tokens
examples, training   what the classifier is trained on, and how
signs, classifier    domain, complexity and language of a text
fitting              what a request has in common with its tools
features             all of it, with the context that the bandit sees
beliefs              what an operator believes before anything is known
arm, surprises       the quality of one model, and sudden changes of it
bandit, history      the models' outlooks and the choice; cost, time and statistics
pacing               a hard budget over a period
decision, reasons    what is decided, why, and what came of it
learner              a route: decides and learns
judging              a language model asked where the statistics are unsure
evaluating           what another policy would have been worth
"""
