"""The OpenAI-compatible door: who asks, which engine answers, and the bytes between the two.

app        the ASGI app: paths, health, what is answered to whom
requests   the body, read within bounds, and the two fields of it that matter here
directory  keys, names and engines as the newest snapshot has them
feed       how the snapshot comes and where it is kept
targets    one engine: its load, its rests, the choice among several
waiting    a request without an engine waits, and wakes a model that sleeps
exchange   one try of one request at one engine
"""
