-- What packets meet at every node before there is a connection: deny list, limits, VIPs, as the JSON of the API. One row.
CREATE TABLE steering (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    rules       TEXT NOT NULL
);
