"""Every request of the API described once; the blocking and the awaiting client both send these."""

from imts_client.calls.call import Call, Follow, Listing

__all__ = ["Call", "Follow", "Listing"]
