# Fills the data directory of each cluster that has a configuration and no data, as pg_createcluster does; it does not
# itself, because it makes both or neither.
for configuration in /etc/postgresql/*/*/postgresql.conf; do
    directory=${configuration%/*}
    cluster=${directory#/etc/postgresql/}
    data=/var/lib/postgresql/$cluster
    if ! [ -e "$data/PG_VERSION" ]; then
        install -d -o postgres -g postgres -m 0700 "$data"
        runuser -u postgres -- "/usr/lib/postgresql/${cluster%/*}/bin/initdb" -D "$data" \
            --auth-local=peer --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
        rm -f "$data/postgresql.conf" "$data/pg_hba.conf" "$data/pg_ident.conf"
    fi
done
