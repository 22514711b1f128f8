"""Rates, budgets and concurrency that hold over all gateways.

`counters.lua` in Redis keeps, of each limit, what is spent and what each gateway holds: a portion, and what its
requests under way may yet cost. Spent and held together never pass the limit. A gateway spends from its portion
without asking, and tells what it did at every beat. A portion that its gateway does not renew falls back, save that of
a budget: the gateway may have spent it and been killed before it could tell, so it stays held.

counter   one limit as this gateway sees it       scopes    the limits that one caller or upstream has
store     the one question to Redis               quota     admission, and the beat
periods   calendar periods                        refusals  what a caller is told
"""

from inference_service.gateway.quota.counter import Kind
from inference_service.gateway.quota.quota import Quota, Settings
from inference_service.gateway.quota.refusals import Full, rate_headers, refusal
from inference_service.gateway.quota.scopes import FREE, MARGIN, Grant, Scopes

__all__ = ["FREE", "MARGIN", "Full", "Grant", "Kind", "Quota", "Scopes", "Settings", "rate_headers", "refusal"]
