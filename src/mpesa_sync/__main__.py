"""`python -m mpesa_sync`, the same as `mpesa-sync`."""

from mpesa_sync.cli.main import run

if __name__ == "__main__":
    run()
