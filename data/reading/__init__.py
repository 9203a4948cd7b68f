"""Where rows come from: files, tables, the hub, a generated world; shown, and walked for the first time."""
