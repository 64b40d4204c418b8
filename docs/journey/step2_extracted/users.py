"""Step 2: users are a service of their own, with a database of its own.

python docs/journey/step2_extracted/users.py
"""

import asyncio
from pathlib import Path

from fastapi import FastAPI

from docs.journey.step1_monolith.shop import USERS, NewUser, User, find_user, insert_user, serve
from docs.journey.storage import create_tables, transaction


def create_app(database: Path = Path("users.sqlite")) -> FastAPI:
    app = FastAPI(title="Users")
    create_tables(database, USERS)

    @app.post("/users", status_code=201)
    def register(user: NewUser) -> User:
        with transaction(database) as connection:
            return insert_user(connection, user)

    @app.get("/users/{user_id}")
    def read_user(user_id: str) -> User:
        """For orders: whoever can reach this port can read it, too."""
        with transaction(database) as connection:
            return find_user(connection, user_id)

    return app


if __name__ == "__main__":
    asyncio.run(serve(create_app(), 8081))
