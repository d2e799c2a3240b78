"""The written forms of a date, which the dates task reads.

No text has two meanings, because all forms keep three conventions:

- A numeric date with slashes, dots or dashes starts with the day (28/07/2025), or with a year of four digits
  (2025/07/28).
- The Chinese order is always year, month, day.
- A year of two digits is read as in POSIX: 69 … 99 are 1969 … 1999, and 00 … 68 are 2000 … 2068. A date outside
  1969 … 2068 is never written with a year of two digits.
"""

from __future__ import annotations

import datetime

#: The years that two digits (`%y` in POSIX) can mean.
TWO_DIGIT_YEARS = range(1969, 2069)

#: Every form, with 5 July 2025 written in it. Capitals matter: {MON} gives JUL. Chinese fields have names in pinyin.
FORMS = (
    "{d} {Month} {yyyy}",  # 5 July 2025
    "{dd} {Month} {yyyy}",  # 05 July 2025
    "{d} {month} {yyyy}",  # 5 july 2025
    "{d} {Mon} {yyyy}",  # 5 Jul 2025
    "{d} {MON} {yyyy}",  # 5 JUL 2025
    "{dd}-{Mon}-{yyyy}",  # 05-Jul-2025
    "{dd}-{MON}-{yy}",  # 05-JUL-25
    "{d} {Mon} {yy}",  # 5 Jul 25
    "{d} {Mon} '{yy}",  # 5 Jul '25
    "{dth} {Month} {yyyy}",  # 5th July 2025
    "{dth} of {Month} {yyyy}",  # 5th of July 2025
    "the {dth} of {Month}, {yyyy}",  # the 5th of July, 2025
    "the {day_word} of {Month} {yyyy}",  # the fifth of July 2025
    "{Weekday}, {d} {Month} {yyyy}",  # Saturday, 5 July 2025
    "{Weekday} {dth} {Month} {yyyy}",  # Saturday 5th July 2025
    "{Weekday}, the {dth} of {Month} {yyyy}",  # Saturday, the 5th of July 2025
    "{Wkd}, {dd} {Mon} {yyyy}",  # Sat, 05 Jul 2025
    "{Wkd} {d} {Mon} {yy}",  # Sat 5 Jul 25
    "{Month} {d}, {yyyy}",  # July 5, 2025
    "{Month} {dth}, {yyyy}",  # July 5th, 2025
    "{Month} the {dth}, {yyyy}",  # July the 5th, 2025
    "{Month} {day_word}, {yyyy}",  # July fifth, 2025
    "{Mon} {d}, {yyyy}",  # Jul 5, 2025
    "{Mon}. {d}, {yyyy}",  # Jul. 5, 2025
    "{MONTH} {d}, {yyyy}",  # JULY 5, 2025
    "{Weekday}, {Month} {d}, {yyyy}",  # Saturday, July 5, 2025
    "{Wkd}, {Mon} {d}, {yyyy}",  # Sat, Jul 5, 2025
    "{yyyy} {Month} {d}",  # 2025 July 5
    "{yyyy}-{Mon}-{dd}",  # 2025-Jul-05
    "{dd}/{mm}/{yyyy}",  # 05/07/2025
    "{d}/{m}/{yyyy}",  # 5/7/2025
    "{dd}/{mm}/{yy}",  # 05/07/25
    "{dd}.{mm}.{yyyy}",  # 05.07.2025
    "{d}.{m}.{yyyy}",  # 5.7.2025
    "{dd}.{mm}.{yy}",  # 05.07.25
    "{dd}-{mm}-{yyyy}",  # 05-07-2025
    "{d}.{roman}.{yyyy}",  # 5.VII.2025
    "{yyyy}/{mm}/{dd}",  # 2025/07/05
    "{yyyy}.{mm}.{dd}",  # 2025.07.05
    "{yyyy}{mm}{dd}",  # 20250705
    "{yyyy}年{m}月{d}日",  # 2025年7月5日
    "{yyyy}年{mm}月{dd}日",  # 2025年07月05日
    "{yyyy}年{m}月{d}号",  # 2025年7月5号
    "{yyyy} 年 {m} 月 {d} 日",  # 2025 年 7 月 5 日
    "{yyyy}年{m}月{d}日星期{zhou}",  # 2025年7月5日星期六
    "{yyyy}年{m}月{d}日(周{zhou})",  # 2025年7月5日(周六)
    "{yy}年{m}月{d}日",  # 25年7月5日
    "{nian}年{yue}月{ri}日",  # 二〇二五年七月五日
    "{nian}年{yue}月{ri}日星期{zhou}",  # 二〇二五年七月五日星期六
    "{nian}年{yue}月{ri}号",  # 二〇二五年七月五号
    "{nian_ling}年{yue}月{ri}日",  # 二零二五年七月五日
)

#: The forms for years that two digits cannot mean.
FOUR_DIGIT_FORMS = tuple(form for form in FORMS if "{yy}" not in form)

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth",
    "eighteenth", "nineteenth", "twentieth", "twenty-first", "twenty-second", "twenty-third",
    "twenty-fourth", "twenty-fifth", "twenty-sixth", "twenty-seventh", "twenty-eighth", "twenty-ninth",
    "thirtieth", "thirty-first",
)  # fmt: skip
CHINESE_DIGITS = "〇一二三四五六七八九"
CHINESE_WEEKDAYS = "一二三四五六日"


def forms_of(date: datetime.date) -> tuple[str, ...]:
    """Return the forms in which a date has only one meaning."""
    return FORMS if date.year in TWO_DIGIT_YEARS else FOUR_DIGIT_FORMS


def write(form: str, date: datetime.date) -> str:
    """Write a date in a form.

    >>> write("{Weekday}, the {dth} of {Month} {yyyy}", datetime.date(2025, 7, 28))
    'Monday, the 28th of July 2025'
    >>> write("{nian}年{yue}月{ri}日", datetime.date(2025, 7, 28))
    '二〇二五年七月二十八日'

    Raises: ValueError when the form is not in `FORMS`, or when its year of two digits would mean another century.
    """
    if form not in forms_of(date):
        raise ValueError(f"form: expected one of FORMS that can hold the year {date.year}, got {form!r}")
    return form.format_map(_fields(date))


def ordinal(day: int) -> str:
    """Write 1st, 2nd, 3rd, 4th … 31st."""
    return f"{day}{'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def chinese(number: int) -> str:
    """Write 1 … 99 in Chinese numerals.

    >>> chinese(7), chinese(10), chinese(28)
    ('七', '十', '二十八')
    """
    tens, ones = divmod(number, 10)
    return (
        (CHINESE_DIGITS[tens] if tens > 1 else "") + ("十" if tens else "") + (CHINESE_DIGITS[ones] if ones else "")
    )


def _fields(date: datetime.date) -> dict[str, str]:
    """Return what the fields of `FORMS` stand for in a date."""
    month, weekday = MONTHS[date.month - 1], WEEKDAYS[date.weekday()]
    nian = "".join(CHINESE_DIGITS[int(digit)] for digit in f"{date.year}")
    return {
        "yyyy": f"{date.year}",
        "yy": f"{date.year % 100:02}",
        "nian": nian,
        "nian_ling": nian.replace("〇", "零"),
        "m": f"{date.month}",
        "mm": f"{date.month:02}",
        "Month": month,
        "month": month.lower(),
        "MONTH": month.upper(),
        "Mon": month[:3],
        "MON": month[:3].upper(),
        "roman": ROMAN[date.month - 1],
        "yue": chinese(date.month),
        "d": f"{date.day}",
        "dd": f"{date.day:02}",
        "dth": ordinal(date.day),
        "day_word": ORDINALS[date.day - 1],
        "ri": chinese(date.day),
        "Weekday": weekday,
        "Wkd": weekday[:3],
        "zhou": CHINESE_WEEKDAYS[date.weekday()],
    }
