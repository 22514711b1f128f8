"""The OpenAI-compatible door: who asks, which engine answers, and the bytes between the two.

callers    HTTP as callers speak it: their connections, requests and answers
app        all of it together: paths, health, what is answered to whom
api        what is answered beside OpenAI's paths; forward: what the control plane answers
requests   the body, read within bounds, and the fields of it that matter here; bodies: another word in it
directory  keys, names, providers and engines as the newest snapshot has them; feed: how it comes and is kept
door       a request, from its first header to its last byte
accounts   what it may cost, and did; quota: rates and budgets over all gateways; ledger: what is told of it
router     which model a route takes; learners, lessons, judge, replay: what it knows, hears, asks, and might have done
tries      one upstream after another; waiting: for one that starts; targets: the choice among several
exchange   one try; speech, answers, messages, anthropic: in the words of who is asked
"""
