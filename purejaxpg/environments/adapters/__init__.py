"""Environments of other libraries as `Env`s, one file each. Nothing else of purejaxpg imports them.

Each library comes with the extra of its name (`pip install -e .[pgx]`) and is imported when one of its
environments is made.
"""
