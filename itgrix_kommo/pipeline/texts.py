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

LEAD_NAMES: dict[str, dict[Language, str]] = {
    "incoming": {"en": "incoming", "es": "entrante", "pt": "recebida", "ru": "входящий"},
    "missed incoming": {
        "en": "missed incoming",
        "es": "entrante perdida",
        "pt": "recebida perdida",
        "ru": "пропущенный входящий",
    },
    "outgoing": {"en": "outgoing", "es": "saliente", "pt": "efetuada", "ru": "исходящий"},
    "missed outgoing": {
        "en": "missed outgoing",
        "es": "saliente sin respuesta",
        "pt": "efetuada sem resposta",
        "ru": "неотвеченный исходящий",
    },
}

TASK_TEXTS: dict[str, dict[Language, str]] = {
    "missed": {
        "en": "Call back {name} on a missed call from a number {phone}",
        "es": "Devolver la llamada a {name}: llamada perdida del número {phone}",
        "pt": "Retornar a ligação de {name}: chamada perdida do número {phone}",
        "ru": "Перезвонить {name}: пропущенный звонок с номера {phone}",
    },
    "unanswered": {
        "en": "Call {name} again: the number {phone} did not answer",
        "es": "Volver a llamar a {name}: el número {phone} no respondió",
        "pt": "Ligar novamente para {name}: o número {phone} não atendeu",
        "ru": "Позвонить {name} ещё раз: номер {phone} не ответил",
    },
}

TASK_RESULTS: dict[Language, str] = {
    "en": "The client was reached",
    "es": "Se habló con el cliente",
    "pt": "O cliente foi contatado",
    "ru": "С клиентом поговорили",
}
