"""Instructions that a program can check, by the ids and arguments of IFEval and IFBench."""
