"""One week of real earthquakes through a queue, with everything that goes wrong in a week; `make demo` runs it.

Law: public API and standard library only, so that it can be copied out. `feed` knows the data, `handlers` the job,
`worker` is one process of it, `stage` kills and restarts them, `verdict` checks what came of it from the file alone.
"""
