"""The words of documents and diagrams."""

import random

ITEMS = (
    "Apples", "Bananas", "Bread", "Butter", "Carrots", "Cheese", "Chocolate", "Coffee", "Eggs", "Flour", "Honey",
    "Juice", "Lemons", "Milk", "Onions", "Pasta", "Rice", "Salt", "Soap", "Sugar", "Tea", "Tomatoes", "Water", "Yogurt",
)  # fmt: skip
FIRST_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Karen", "Leo", "Maria",
    "Noah", "Olivia", "Paul", "Rosa", "Sam", "Tina", "Victor",
)  # fmt: skip
LAST_NAMES = (
    "Becker", "Brown", "Clark", "Davis", "Evans", "Fischer", "Garcia", "Hill", "Jones", "Keller", "Lopez", "Miller",
    "Novak", "Olsen", "Parker", "Rossi", "Smith", "Turner", "Weber", "Young",
)  # fmt: skip
CITIES = (
    "Berlin", "Boston", "Cairo", "Delhi", "Dublin", "Geneva", "Lima", "Lisbon", "London", "Madrid", "Milan", "Oslo",
    "Paris", "Prague", "Rome", "Sydney", "Tokyo", "Vienna", "Warsaw", "Zurich",
)  # fmt: skip
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SHOPS = ("Corner Shop", "City Market", "Green Store", "Star Bakery", "Old Mill", "Sun Cafe", "Blue Door", "Farm House")
TOPICS = ("Sales", "Visitors", "Rain", "Goals", "Orders", "Trees", "Books", "Trains")
OPTIONS = ("Wi-Fi", "Sound", "Updates", "Dark mode", "Location", "Camera", "Backup", "Alerts", "Cookies", "Zoom")
BUTTONS = ("Save", "Cancel", "Open", "Print", "Send", "Delete", "Close", "Help")
TITLES = ("Settings", "Network", "Printer", "Account", "Profile", "Editor", "Messages", "Calendar")


def make_price(rng: random.Random) -> str:
    """Such as "12.50"."""
    return f"{rng.randint(1, 49)}.{rng.choice((0, 20, 25, 40, 50, 75, 80, 95, 99)):02}"


def make_date(rng: random.Random) -> str:
    """Such as "14 May 2021"."""
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1990, 2029)}"


def make_code(rng: random.Random) -> str:
    """Two letters and two digits, which cannot be guessed."""
    return "".join(rng.choice("ACEFHKLMPRTX") for _ in range(2)) + str(rng.randint(10, 99))


def make_name(rng: random.Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def make_phone(rng: random.Random) -> str:
    """Such as "471-2938"."""
    return f"{rng.randint(200, 999)}-{rng.randint(1000, 9999)}"
