#!/bin/sh
# Start Redis with what the environment gives: the password, kept out of the process list, and the
# memory limit. The password stands in the workers' URL too, hence the characters allowed.
set -eu
case "$REDIS_PASSWORD" in
'' | *[!A-Za-z0-9._~-]*)
    echo "REDIS_PASSWORD may hold letters, digits and - . _ ~ only, and not be empty" >&2
    exit 2
    ;;
esac
number=${REDIS_MAXMEMORY%%[!0-9]*}
case "${number:+number}${REDIS_MAXMEMORY#"$number"}" in
number | number[bBkKmMgG] | number[kKmMgG][bB]) ;;
*)
    echo "REDIS_MAXMEMORY is '$REDIS_MAXMEMORY', which is no size; 512mb or 4gb would be, or a number of bytes" >&2
    exit 2
    ;;
esac
exec redis-server /etc/redis/redis.conf - <<END
requirepass $REDIS_PASSWORD
maxmemory $REDIS_MAXMEMORY
END
