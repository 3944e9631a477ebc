class Loops:
    pass
