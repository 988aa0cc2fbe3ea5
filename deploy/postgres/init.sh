#!/usr/bin/env bash
# Run once by the postgres image, when its volume is empty. ragmesh owns its database but is no
# superuser: superusers bypass row security, which keeps tenants apart.
set -euo pipefail
psql --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres \
    --set=password="$RAGMESH_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE ragmesh LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE ragmesh OWNER ragmesh;
SQL
