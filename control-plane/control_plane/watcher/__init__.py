"""The watcher: sends queued work, ends silent runs, delivers webhooks, prunes."""
