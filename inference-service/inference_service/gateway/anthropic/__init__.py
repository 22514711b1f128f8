"""Anthropic's native messages behind OpenAI's chat completions: translation alone, nothing is sent or read here.

request    a caller's body as a request to POST {base}/v1/messages, and the headers that go with it
turns      the messages: system, and turns of user and assistant that alternate
parts      what a message holds: text, images, files
tools      functions, their choice, and the form that the answer shall have
schema     a JSON schema within what Anthropic enforces
sampling   temperature and its kin, which not every model takes
answer     a whole answer as a chat.completion
stream     the events of an answer as chunks of a chat.completion
events     server-sent events out of bytes as they come
usage      the tokens that an answer says it took
failures   what Anthropic refuses, and what is no answer at all
refusals   what of a request is wrong, or has no counterpart there
"""
