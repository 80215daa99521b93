"""The live path (facts/live.md): from a committed change to every open page. It reads, wakes and streams; `hub` is
its front door, and the only thing it ever writes is a version that another writer left behind.
"""
