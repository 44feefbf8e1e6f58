"""The benchmark suites, installed as `diffcore_gpu.benchmarks` and run as ``diffcore bench NAME``.

Each suite is a module with a function ``main(arguments)``; `diffcore_gpu.benchmarks.suites` lists them. What they wrote
on some machines is in the repository's ``benchmarks/results``.
"""
