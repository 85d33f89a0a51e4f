#!/bin/sh
# Stands before adduser, addgroup, useradd and groupadd while Kiln builds: a name that kiln.lock knows gets the id it has
# there, and no other name gets an id of kiln.lock. They are all asked by a range, of one id for a name that is known:
# everything else stays as the caller wants it.
place=/run/kiln/ids
program=${0##*/}
. "$place/ranges"

# The id of $2 in the file $1, if it is there.
id_of() {
    while IFS=: read -r name id; do
        [ "$name" = "$2" ] && echo "$id" && return
    done <"$place/$1"
}

# Whether there is a group $1.
is_group() {
    while IFS=: read -r name rest; do
        [ "$name" = "$1" ] && return
    done </etc/group
    return 1
}

# Which letters take the next argument as their value.
case $program in
useradd) valued='bcdefgGkKpPRsuZ' ;;
groupadd) valued='gKpPRU' ;;
*) valued='c' ;;
esac

account= previous= system= own_group=yes
for argument; do
    case $argument in
    --sys*|-sys*|-r) system=yes ;;
    -g*|--gid*|--no-user-group|-[PR]*|--prefix*|--root*) own_group= ;;
    -*)
        case ${argument#-} in
        # Not letters without values alone.
        *[!DFlmMNorUg]*) ;;
        *[Ng]*) own_group= ;;
        esac
        ;;
    *)
        case $previous in
        --base-dir|--comment|--conf|--expiredate|--first?id|--gecos|--gid|--groups|--home|--home-dir|--inactive) ;;
        --ingroup|--key|--last?id|--password|--prefix|--root|--selinux-*|--shell|--skel|--uid|--users) ;;
        --*) account=$argument ;;
        -*[$valued]) ;;
        *) account=$argument ;;
        esac
        ;;
    esac
    previous=$argument
done

uid=$(id_of users "$account")
gid=$(id_of groups "$account")
case $program in
useradd)
    # A system user's group gets the user's id if that is in reach of the range: one with another id must be there first.
    if [ "$own_group" ] && [ "$uid" ] && [ "$gid" ] && [ "$uid" != "$gid" ] && ! is_group "$account"; then
        "$place/real/groupadd" -g "$gid" -p '!' "$account" || exit
        for argument; do
            shift
            # The group that -U would make is there now.
            case $argument in
            --user-group|-U) continue ;;
            -*[!DFlmMNorU]*) ;;
            -*U*) argument=${argument%%U*}${argument#*U} ;;
            esac
            set -- "$@" "$argument"
        done
        set -- -g "$account" "$@"
    fi
    set -- -K "SYS_UID_MIN=${uid:-$system_first}" -K "SYS_UID_MAX=${uid:-$system_last}" \
        -K "UID_MIN=${uid:-$regular_first}" -K "UID_MAX=${uid:-$regular_last}" "$@"
    ;;
adduser|addgroup)
    if [ "$system" ]; then first=$system_first last=$system_last; else first=$regular_first last=$regular_last; fi
    set -- --firstuid "${uid:-$first}" --lastuid "${uid:-$last}" "$@"
    if grep -q firstgid "$place/real/$program"; then
        set -- --firstgid "${gid:-$first}" --lastgid "${gid:-$last}" "$@"
    fi
    ;;
esac
case $program in
useradd|groupadd)
    set -- -K "SYS_GID_MIN=${gid:-$system_first}" -K "SYS_GID_MAX=${gid:-$system_last}" \
        -K "GID_MIN=${gid:-$regular_first}" -K "GID_MAX=${gid:-$regular_last}" "$@"
    ;;
esac
exec "$place/real/$program" "$@"
