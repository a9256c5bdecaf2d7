"""The words that sales people read in Kommo, in the configured language."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "es", "pt", "ru"]

CALL_RESULTS: dict[str, dict[Language, str]] = {
    "talked": {"en": "Talked", "es": "Hablaron", "pt": "Conversaram", "ru": "Разговор состоялся"},
    "left a message": {
        "en": "Left a message",
        "es": "Dejó un mensaje",
        "pt": "Deixou mensagem",
        "ru": "Оставлено сообщение",
    },
    "no answer": {"en": "No answer", "es": "Sin respuesta", "pt": "Sem resposta", "ru": "Нет ответа"},
    "gave up": {
        "en": "The caller hung up",
        "es": "El llamante colgó",
        "pt": "Quem ligou desligou",
        "ru": "Звонивший положил трубку",
    },
    "rejected": {"en": "Rejected", "es": "Rechazada", "pt": "Recusada", "ru": "Отклонён"},
    "busy": {"en": "Busy", "es": "Ocupado", "pt": "Ocupado", "ru": "Занято"},
    "unreachable": {"en": "Unreachable", "es": "No disponible", "pt": "Indisponível", "ru": "Недоступен"},
    "congestion": {
        "en": "Line congestion",
        "es": "Línea saturada",
        "pt": "Linha congestionada",
        "ru": "Линия перегружена",
    },
    "wrong number": {
        "en": "Wrong number",
        "es": "Número equivocado",
        "pt": "Número errado",
        "ru": "Неправильный номер",
    },
}

CONTACT_NAMES: dict[Language, str] = {
    "en": "Contact {phone}",
    "es": "Contacto {phone}",
    "pt": "Contato {phone}",
    "ru": "Контакт {phone}",
}
