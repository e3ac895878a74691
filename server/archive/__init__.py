"""Archives: rows of sealed months as Parquet, in a local folder or anywhere fsspec reaches.

    TARGET/archive/events/year=2025/month=10/bucket=03/part-<sha256>.parquet    rows; any tool reads the tree (Hive)
    TARGET/archive/manifests/2025-10-<digest>.json                              an archive exists once this does
    TARGET/archive/drafts/...                                                   what is under way, or was left over

An archive is a manifest and the parts that it names, which no other archive shares. Its parts are read back and
compared with the store before the manifest is written, so whatever has a manifest was whole once; `verifying` says
whether it still is. One writer a target: archives are made, cut down and destroyed by one process at a time.

The modules that touch rows need pyarrow, those that reach beyond local folders need fsspec: both come with the extra
"archive", which `extra.require` asks for.
"""
