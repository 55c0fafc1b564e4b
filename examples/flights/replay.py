"""Plays the flights of 2013 into two streams, and writes the weather with the time at which each hour could be known.

A departure is known when the flight leaves (scheduled departure + dep_delay), an arrival when it is there (departure + air_time).
The data has no time of report for the weather: `reported_at` is constructed, 20 minutes after the hour that it observes.
"""

from typing import Any

import duckdb

BATCH = 20_000
FLIGHTS = """
CREATE TABLE flights AS
SELECT *, time_hour + to_minutes("minute") AS scheduled_at, time_hour + to_minutes("minute") + to_minutes(dep_delay) AS departed_at
FROM read_csv('data/raw/flights.csv', nullstr = 'NA', types = {'dep_delay': 'BIGINT', 'arr_delay': 'BIGINT', 'air_time': 'BIGINT'})
WHERE time_hour < TIMESTAMPTZ '2013-01-01 05:00:00+00' + to_days(CAST(? AS INTEGER)) AND dep_delay IS NOT NULL
"""
DEPARTURES = """
SELECT to_json({carrier: carrier, flight: flight, origin: origin, dest: dest, tailnum: tailnum, time_hour: iso(time_hour),
    scheduled_at: iso(scheduled_at), departed_at: iso(departed_at), dep_delay: dep_delay, distance: distance})
FROM flights ORDER BY departed_at, carrier, flight, origin, time_hour
"""
ARRIVALS = """
SELECT to_json({carrier: carrier, flight: flight, origin: origin, dest: dest, tailnum: tailnum, time_hour: iso(time_hour),
    arrived_at: iso(departed_at + to_minutes(air_time)), dep_delay: dep_delay, arr_delay: arr_delay})
FROM flights WHERE arr_delay IS NOT NULL ORDER BY departed_at + to_minutes(air_time), carrier, flight, origin, time_hour
"""
WEATHER = """
COPY (SELECT origin, iso(time_hour) AS observed_at, iso(time_hour + INTERVAL 20 MINUTE) AS reported_at,
        temp, wind_speed, visib, precip, pressure
    FROM read_csv('data/raw/weather.csv', nullstr = 'NA')
    WHERE time_hour < TIMESTAMPTZ '2013-01-01 05:00:00+00' + to_days(CAST(? AS INTEGER)) ORDER BY time_hour, origin)
TO 'data/weather.csv.gz' (HEADER, COMPRESSION gzip)
"""


def replay(run: Any, days: int = 365) -> None:
    """Write the first `days` days of the year."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.execute("CREATE MACRO iso(moment) AS strftime(moment, '%Y-%m-%dT%H:%M:%SZ')")
    database.execute(FLIGHTS, [days])
    database.execute(WEATHER, [days])
    for topic, query in (("departures", DEPARTURES), ("arrivals", ARRIVALS)):
        records = [text.encode() for (text,) in database.execute(query).fetchall()]
        stream = run.stream(topic)
        for start in range(stream.written, len(records), BATCH):  # a replay that was killed goes on where it was
            stream.append(records[start : start + BATCH])
            run.progress(min(start + BATCH, len(records)), len(records), f"{topic} records")
        print(f"{topic}: {len(records):,} records")
