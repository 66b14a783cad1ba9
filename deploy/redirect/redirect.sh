#!/bin/sh
# Has the kernel redirect connections to MongoDB to a proxy with [listen] mode = "redirect" or
# "tproxy", and undoes that. Needs root (CAP_NET_ADMIN), nft and, for tproxy, ip. Doing either twice is
# the same as doing it once. Only the table mongo_session_proxy is touched.
set -eu

usage() {
    cat <<END
usage: redirect.sh sidecar --uid UID | --mark MARK [options]   applications on this machine, in this pod
       redirect.sh gateway [options]                           what passes through this machine
       redirect.sh tproxy [options]                            the same, for mode = "tproxy"
       redirect.sh undo                                        as it was before
       redirect.sh show                                        what is set

  --to PORT       the port that the proxy listens on (27018)
  --ports PORTS   the ports to redirect, as nft writes sets (27017-27019)
  --uid UID       the user that the proxy runs as: what it sends is left alone
  --mark MARK     upstream.socket_mark: the same by that; of tproxy the mark for its route (0x6d73)
  --from NAME     only what comes in by this interface, such as eth0 or 'eth*' (any)
END
}

here=$(cd "$(dirname "$0")" && pwd)
table=27018
action=${1:-}
[ $# -eq 0 ] || shift
to=27018 ports=27017-27019 uid='' mark='' from=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { usage >&2; exit 2; }
    case $1 in
        --to) to=$2 ;;
        --ports) ports=$2 ;;
        --uid) uid=$2 ;;
        --mark) mark=$2 ;;
        --from) from=$2 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift 2
done

# Packets with the mark are this machine's own, whatever their destination.
routes() {
    for family in -4 -6; do
        while ip "$family" rule del lookup "$table" 2>/dev/null; do :; done
        ip "$family" route flush table "$table" 2>/dev/null || true
        [ -z "$1" ] || {
            ip "$family" rule add fwmark "$1" lookup "$table" || return 1
            ip "$family" route add local default dev lo table "$table" || return 1
        }
    done
}

rules() {
    any=
    [ -n "$from" ] || any='s/iifname \$interface/iifname != "lo"/'
    # Nobody has the two large numbers.
    sed "$any" "$here/$1.nft" | nft -D "listener=$to" -D "ports={ $ports }" \
        -D "interface=\"$from\"" -D "uid=${uid:-4294967294}" \
        -D "own_mark=${mark:-0xfffffffe}" -f -
}

case $action in
    sidecar)
        [ -n "$uid$mark" ] || { echo "redirect.sh: sidecar needs --uid or --mark: the proxy must not be redirected to itself" >&2; exit 2; }
        routes ''
        rules sidecar
        ;;
    gateway)
        routes ''
        rules gateway
        ;;
    tproxy)
        mark=${mark:-0x6d73}
        routes "$mark" || { routes ''; exit 1; }
        rules tproxy
        ;;
    undo)
        nft -f - <<END
table inet mongo_session_proxy
delete table inet mongo_session_proxy
END
        routes ''
        ;;
    show)
        nft list table inet mongo_session_proxy 2>/dev/null || echo "nothing is redirected"
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
