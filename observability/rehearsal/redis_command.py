"""`redis-cli -u URL COMMAND ...` for a machine that has Redis' server alone: the runbooks call it by that name."""

import sys

from redis import Redis


def main() -> None:
    flag, url, *command = sys.argv[1:]
    if flag != "-u":
        sys.exit("redis-cli -u URL COMMAND ...")
    with Redis.from_url(url, decode_responses=True) as redis:
        print(redis.execute_command(*command))


if __name__ == "__main__":
    main()
