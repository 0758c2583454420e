#!/bin/sh
# The real servers and referees that the tests talk to, and what their packages for Kerberos are built with, from
# Debian's packages. Installs what is missing when it may, and otherwise says what is missing and fails: a test that
# cannot see its server must not pass for one that did.
set -eu

packages="openssl gnutls-bin libnss3-tools nginx-light postfix dovecot-core dovecot-imapd dovecot-pop3d \
prometheus sslscan testssl.sh bsdextrautils dnsutils procps \
samba samba-ad-dc samba-ad-provision krb5-user faketime gcc libc6-dev libkrb5-dev python3-dev"

# nginx and postfix may be there as one of their other builds: what counts is the program, or a file that only it brings.
program_of() {
    case "$1" in
        gnutls-bin) echo gnutls-serv ;;
        libnss3-tools) echo selfserv ;;
        nginx-light) echo nginx ;;
        dovecot-core) echo dovecot ;;
        dovecot-imapd) echo /usr/lib/dovecot/imap-login ;;
        dovecot-pop3d) echo /usr/lib/dovecot/pop3-login ;;
        prometheus) echo promtool ;;
        testssl.sh) echo testssl ;;
        bsdextrautils) echo hexdump ;;
        dnsutils) echo dig ;;
        procps) echo ps ;;
        samba-ad-dc) echo /usr/lib/*/samba/ldb/samba_dsdb.so ;;
        samba-ad-provision) echo /usr/share/samba/setup/provision.ldif ;;
        krb5-user) echo kinit ;;
        libc6-dev) echo /usr/include/stdio.h ;;
        libkrb5-dev) echo krb5-config ;;
        python3-dev) echo python3-config ;;
        *) echo "$1" ;;
    esac
}

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=""
for package in $packages; do
    program=$(program_of "$package")
    case "$program" in
        /*) [ -e "$program" ] ;;
        *) command -v "$program" >/dev/null 2>&1 ;;
    esac || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these Debian packages, or their like here:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "The tests need these packages; install them with: sudo apt-get install$missing" >&2
    exit 1
fi

# Packages start their services on installation; the tests start their own, on ports of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
echo "Installing for the tests:$missing" >&2
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >/dev/null
