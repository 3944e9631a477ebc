class Trouble:
    pass
